"""Command lines and shell text, read and never run.

A text is parsed (`parser`, `syntax`) into statements whose words are cut into pieces; a `Reader` follows
them with a `State`, expanding words (`expansion`, `parameters`, `arithmetic`, `patterns`) into a `Text`,
of which parts may be `Unknown`. `builtins` change the state, `tools` say what programs would print, and
what is left goes to a starter that looks for launches. `commands` lists the words of `bash -c` with their
places, `blocks` finds shell text in Makefiles and READMEs, `wrappers` peels programs that start others.
"""
