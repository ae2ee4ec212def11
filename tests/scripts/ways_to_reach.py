"""Files of a repository, one of which makes an inference engine, and ways in which a script reaches it or does not."""

from __future__ import annotations

FILES = {
    "served.py": """\
import torch
class Engine:
    def __init__(self, a=None): self.a=a
    def serve(self):
        from vllm import LLM
        return LLM("x")
    def other(self): return 1
def serve():
    from vllm import LLM
    return LLM("x")
def harmless(): return 1
""",
    "tables.py": """\
from served import serve, harmless
T={"ppo":serve,"sft":harmless}
class K:
    KINDS={"ppo":serve,"sft":harmless}
    def go(self,m): return self.KINDS[m]()
def of(m): return T[m]
""",
    "tables_again.py": """\
from tables import T as TT
""",
    "patched.py": """\
f=None
def go(): f()
class B: pass
""",
    "objects.py": """\
from served import serve
class C:
    def __init__(self): self.e=serve()
class Base:
    def run(self): return self.step()
    def step(self): return 1
class D(Base):
    def step(self): return serve()
class P:
    @property
    def it(self): return serve()
class CM:
    def __enter__(self): serve()
    def __exit__(self,*a): pass
class Callable_:
    def __call__(self): return serve()
class R:
    def a(self): return serve()
    table=[a]
    def run(self): return self.table[0](self)
""",
    "at_import.py": """\
from served import serve
serve()
""",
    "imports_it.py": """\
import at_import
""",
    "registered.py": """\
from served import serve as s
R=[]
def reg(f): R.append(f); return f
@reg
def q(): s()
def go():
    for f in R: f()
""",
    "by_mode.py": """\
from served import serve
def inner(mode):
    if mode=="ppo": serve()
def train(args):
    inner(args.mode)
""",
    "sets_mode.py": """\
from served import serve
def prep(args): args.mode=load()
def train(args):
    prep(args)
    if args.mode=="ppo": serve()
""",
    "calls_again.py": """\
from by_mode import inner
def go(): inner("ppo")
""",
    "keeps_mode.py": """\
from served import serve
class T:
    def __init__(self,args):
        self.mode=args.mode
    def train(self):
        if self.mode=="ppo": serve()
class S(T):
    def __init__(self,args):
        super().__init__(args)
        self.mode="ppo"
""",
    "resets_mode.py": """\
from served import serve
class T:
    def __init__(self,args):
        self.mode=args.mode
        self.fix()
    def fix(self): self.mode=load()
    def train(self):
        if self.mode=="ppo": serve()
""",
    "subclasses.py": """\
from served import serve
R=[]
class B:
    def __init_subclass__(cls): R.append(cls)
class S(B):
    def run(self): serve()
def go(): R[0]().run()
""",
    "metaclasses.py": """\
from served import serve
R=[]
class M(type):
    def __new__(m,*a):
        c=super().__new__(m,*a); R.append(c); return c
class S(metaclass=M):
    def run(self): serve()
def go(): R[0]().run()
""",
    "variable.py": """\
from served import serve
F=serve
def go(): F()
""",
    "hooks.py": """\
from served import serve
from transformers import Trainer, TrainerCallback
class MyT(Trainer):
    def _inner_training_loop(self,*a): serve()
class CB(TrainerCallback):
    def on_step_end(self,*a,**k): serve()
""",
    "instance.py": """\
from served import Engine
engine=Engine()
""",
    "by_default.py": """\
from served import serve
def g(mode="ppo"):
    if mode=="ppo": serve()
""",
    "inherits_mode.py": """\
from served import serve
class A:
    def __init__(self,mode): self.mode=mode
    def train(self):
        if self.mode=="ppo": serve()
    @classmethod
    def make(cls): cls("ppo").train()
class B(A):
    def __init__(self,m): super().__init__(mode=m)
""",
    "dispatches.py": """\
from served import serve
class X:
    def go(self,n): return getattr(self,"do_"+n)()
    def do_serve(self): serve()
""",
    "pk/__init__.py": """\
from .a import *
""",
    "pk/a.py": """\
from served import serve
""",
    "pk2/__init__.py": """\
def __getattr__(n):
    from importlib import import_module
    return getattr(import_module("pk2.b"),n)
""",
    "pk2/b.py": """\
from served import serve
""",
}
"""File -> its text; `serve`, and the method of that name, make the engine."""

REACHED = {
    "table of a file known key": """\
from tables import T
T["ppo"]()
""",
    "table of a file unknown key": """\
import os
from tables import T
T[os.environ["M"]]()
""",
    "table of a file in a function": """\
from tables import T
def main(mode):
    kind=T[mode]
    kind()
main("ppo")
""",
    "table of a file get": """\
from tables import T
T.get("ppo")()
""",
    "table of a file dotted": """\
import tables
tables.T["ppo"]()
""",
    "table of a file dotted and whole": """\
import tables
for f in tables.T.values(): f()
""",
    "table of a file whole": """\
from tables import T
def go(t): t["ppo"]()
go(T)
""",
    "table of a file handed on": """\
from tables_again import TT
TT["ppo"]()
""",
    "table of a file by its function": """\
from tables import of
of("ppo")()
""",
    "table of a file filled": """\
from tables import T
from served import serve
T["dpo"]=serve
T["dpo"]()
""",
    "table of a class": """\
from tables import K
K().go("ppo")
""",
    "getattr method literal": """\
from served import Engine
getattr(Engine(),"serve")()
""",
    "getattr method dynamic": """\
from served import Engine
getattr(Engine(),"ser"+load())()
""",
    "getattr fstring": """\
from served import Engine
k="ve"
getattr(Engine(),f"ser{k}")()
""",
    "callback value": """\
from served import serve
run(serve)
""",
    "callback method": """\
from served import Engine
run(Engine().serve)
""",
    "callback in dict": """\
from served import serve
d={"a":serve}
run(d)
""",
    "dict values": """\
from served import serve
d={"a":serve}
for f in d.values(): f()
""",
    "dict unknown key": """\
from served import serve, harmless
d={"a":serve,"b":harmless}
import os
d[os.urandom(1)]()
""",
    "dict get other": """\
from served import serve, harmless
d={"sft":serve,"x":harmless}
d.get(args.mode)()
""",
    "dict get default": """\
from served import serve, harmless
d={"x":harmless}
d.get(args.mode, serve)()
""",
    "dict later entry": """\
from served import serve, harmless
d={"x":harmless}
d["sft"]=serve
d[args.mode]()
""",
    "dict update": """\
from served import serve, harmless
d={"sft":harmless}
d.update(sft=serve)
d[args.mode]()
""",
    "dict update2": """\
from served import serve, harmless
d={"sft":harmless}
d.update({"sft":serve})
d[args.mode]()
""",
    "dict merged": """\
from served import serve, harmless
d={"a":serve}
e={**d}
e["a"]()
""",
    "globals": """\
from served import *
globals()["ser"+"ve"]()
""",
    "globals const": """\
from served import serve
globals()["serve"]()
""",
    "globals get": """\
from served import serve
globals().get("serve")()
""",
    "eval": """\
from served import serve
eval("serve()")
""",
    "monkey": """\
import served, patched
patched.f=served.serve
patched.go()
""",
    "monkey class": """\
from served import Engine
from patched import B
B.go=Engine.serve
B().go()
""",
    "setattr": """\
from served import serve
from patched import B
setattr(B,"go",serve)
B().go()
""",
    "init effect": """\
from objects import C
C()
""",
    "subclass override": """\
from objects import D
D().run()
""",
    "import effect": """\
import at_import
""",
    "import effect deep": """\
import imports_it
""",
    "decorator": """\
import registered
registered.go()
""",
    "decorator own": """\
from served import serve
@serve
def f(): pass
""",
    "property": """\
from objects import P
P().it
""",
    "contextmanager": """\
from objects import CM
with CM(): pass
""",
    "call": """\
from objects import Callable_
Callable_()()
""",
    "branch changed": """\
from served import serve
args.mode=compute()
if args.mode=="ppo": serve()
""",
    "branch setattr": """\
from served import serve
for k,v in load().items(): setattr(args,k,v)
if args.mode=="ppo": serve()
""",
    "branch vars update": """\
from served import serve
vars(args).update(load())
if args.mode=="ppo": serve()
""",
    "branch __dict__": """\
from served import serve
args.__dict__.update(load())
if args.mode=="ppo": serve()
""",
    "deep branch changed there": """\
from sets_mode import train
train(args)
""",
    "deep branch two callers": """\
from by_mode import train, inner
train(args)
inner("ppo")
""",
    "deep later caller": """\
from by_mode import train
from calls_again import go
train(args)
go()
""",
    "partial": """\
from functools import partial
from by_mode import inner
partial(inner,"ppo")()
""",
    "param alias": """\
from by_mode import inner
f=inner
f("ppo")
""",
    "map": """\
from by_mode import inner
list(map(inner,["ppo"]))
""",
    "thread": """\
from by_mode import inner
import threading
threading.Thread(target=inner,args=("ppo",)).start()
""",
    "self attr changed": """\
from resets_mode import T
T(args).train()
""",
    "self attr other sets": """\
from keeps_mode import T
t=T(args)
t.mode="ppo"
t.train()
""",
    "self attr sub": """\
from keeps_mode import S
S(args).train()
""",
    "handler": """\
from served import serve
try:
  x()
except ImportError:
  serve()
""",
    "finally": """\
from served import serve
try:
  x()
finally:
  serve()
""",
    "lambda": """\
from served import serve
run(lambda args: serve())
""",
    "nested def": """\
from served import serve
def outer():
  def inner(): serve()
  return inner
outer()()
""",
    "module attr": """\
import served
served.serve()
""",
    "module passed": """\
import served
run(served)
""",
    "getattr module dyn": """\
import served
getattr(served,load())()
""",
    "importlib": """\
import importlib
import served
importlib.import_module(load()).serve()
""",
    "importlib2": """\
import importlib
importlib.import_module("served").serve()
""",
    "importlib3": """\
from importlib import import_module as im
im("served").serve()
""",
    "sysmodules": """\
import sys, served
sys.modules["served"].serve()
""",
    "subclasses": """\
from objects import Base
[c().run() for c in Base.__subclasses__()]
""",
    "init_subclass": """\
import subclasses
subclasses.go()
""",
    "metaclass": """\
import metaclasses
metaclasses.go()
""",
    "class attr method ref": """\
from objects import R
R().run()
""",
    "star": """\
from served import *
serve()
""",
    "reexport": """\
from pk import serve
serve()
""",
    "pkg getattr": """\
import pk2
pk2.serve()
""",
    "walrus": """\
from served import serve
if (m:=args.mode)=="sft": serve()
""",
    "default arg": """\
from served import serve
def f(g=serve): g()
f()
""",
    "while": """\
from served import serve
while True:
  serve()
""",
    "match": """\
from served import serve
match args.n:
  case 0: serve()
""",
    "global fn var": """\
import variable
variable.go()
""",
    "trainer hook": """\
from hooks import MyT
MyT(1).train()
""",
    "callback class": """\
from hooks import CB
Trainer(callbacks=[CB()])
""",
    "attr by instance module var": """\
from instance import engine
engine.serve()
""",
    "kwargs site": """\
from by_mode import inner
inner(**{"mode":"ppo"})
""",
    "default used": """\
from by_default import g
g()
""",
    "super kw": """\
from inherits_mode import B
B("ppo").train()
""",
    "cls make": """\
from inherits_mode import A
A("sft").train()
A.make()
""",
    "dispatch method name": """\
from dispatches import X
X().go("serve")
""",
    "exec": """\
import served
exec("served.serve()")
""",
    "entry reassign": """\
from served import serve
mode=args.mode
mode="ppo" if torch.rand(1)>0 else mode
if mode=="ppo": serve()
""",
    "del & re": """\
from served import serve
mode="sft"
for mode in ["ppo"]: pass
if mode=="ppo": serve()
""",
}
NOT_REACHED = {
    "table of a file other key": """\
from tables import T
T[args.mode]()
""",
    "table of a file other key in a function": """\
from tables import T
def main(mode):
    T[mode]()
main(args.mode)
""",
    "table of a file dotted other key": """\
import tables
tables.T[args.mode]()
""",
    "table of a file get other key": """\
from tables import T
if args.mode not in T.keys(): raise ValueError(T.keys())
T.get(args.mode)()
""",
    "table of a file asked whether it has a key": """\
from tables import T
"ppo" in T and T["sft"]()
""",
    "dict known key": """\
from served import serve, harmless
d={"ppo":serve,"sft":harmless}
d[args.mode]()
""",
    "dict get known": """\
from served import serve, harmless
d={"ppo":serve,"sft":harmless}
d.get(args.mode)()
""",
    "subclass not used": """\
from objects import Base
Base().run()
""",
    "known branch off": """\
from served import serve
if args.use_vllm: serve()
""",
    "known branch mode": """\
from served import serve
if args.mode=="ppo": serve()
""",
    "deep branch off": """\
from by_mode import train
train(args)
""",
    "self attr": """\
from keeps_mode import T
T(args).train()
""",
    "type checking": """\
from typing import TYPE_CHECKING
if TYPE_CHECKING:
  from vllm import LLM
""",
    "annotation": """\
from served import Engine
def f(x: Engine): pass
f(1)
""",
    "isinstance": """\
from served import Engine
isinstance(args, Engine)
""",
    "return later": """\
from served import serve
def f():
  if not args.use_vllm:
    return 0
  serve()
f()
""",
}
