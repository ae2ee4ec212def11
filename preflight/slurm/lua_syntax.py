"""Whether a Lua file compiles, asked of luac, of the package lupa, or of the Lua library that Slurm itself loads."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import shutil
import subprocess

COMPILERS = ("luac5.1", "luac", "luac5.3", "luac5.4")
LIBRARIES = ("lua5.1", "lua-5.1", "lua5.3", "lua5.4", "lua-5.3", "lua-5.4", "lua")
"""Names for `find_library`; Debian's slurm-wlm-basic-plugins needs liblua5.1, EPEL's slurm lua 5.4."""
TIMEOUT_S = 10


class NoLua(Exception):
    """Nothing on this machine can read Lua."""


def syntax_problem(text: str) -> str | None:
    """Return what is wrong with a Lua file, None where it compiles; raise NoLua where nobody can say."""
    for ask in (_ask_luac, _ask_lupa, _ask_library):
        try:
            return ask(text)
        except NoLua:
            continue
    raise NoLua("neither luac, nor the Python package lupa, nor a Lua library is installed")


def _bytes(text: str) -> bytes:
    """Return a file's text as it is written: a plain locale has bytes in a path that it cannot name."""
    return text.encode("utf-8", "surrogateescape")


def _ask_luac(text: str) -> str | None:
    path = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if path is None:
        raise NoLua(COMPILERS[0])
    try:
        done = subprocess.run(
            [path, "-p", "-"], input=_bytes(text), capture_output=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoLua(str(error)) from error
    return None if done.returncode == 0 else done.stderr.decode(errors="replace").strip()


def _ask_lupa(text: str) -> str | None:
    try:
        lua = importlib.import_module("lupa.lua51")
    except ImportError as error:
        raise NoLua("lupa") from error
    try:
        lua.LuaRuntime(encoding="latin-1").compile(_bytes(text))  # its complaint quotes any byte
    except lua.LuaSyntaxError as error:
        return str(error)
    return None


def _ask_library(text: str) -> str | None:
    library = None
    for name in LIBRARIES:
        path = ctypes.util.find_library(name)
        if path is None:
            continue
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        break
    if library is None:
        raise NoLua("liblua")
    library.luaL_newstate.restype = ctypes.c_void_p
    library.lua_tolstring.restype = ctypes.c_char_p
    library.lua_tolstring.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    library.lua_close.argtypes = (ctypes.c_void_p,)
    data = _bytes(text)
    words = [ctypes.c_char_p(data), ctypes.c_size_t(len(data)), ctypes.c_char_p(b"=guard")]
    state = ctypes.c_void_p(library.luaL_newstate())
    try:
        if hasattr(library, "luaL_loadbufferx"):  # Lua 5.2 and later
            code = library.luaL_loadbufferx(state, *words, None)
        else:
            code = library.luaL_loadbuffer(state, *words)
        if code == 0:
            return None
        said: bytes | None = library.lua_tolstring(state, -1, None)
        return (said or b"it does not compile").decode(errors="replace")
    finally:
        library.lua_close(state)
