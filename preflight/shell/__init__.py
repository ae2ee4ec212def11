"""Command lines and shell text, read and never run.

`grammar` parses a text into statements whose words are cut into pieces. `meaning` expands words into a `Text`, of which parts
may be `Unknown`, with what statements and builtins did to a `State`; `programs` says what programs would print. A `Reader`
follows statements with these, and what is left goes to a starter that looks for launches. `commands` lists the words of
`bash -c` with their places, `blocks` finds shell text in Makefiles and READMEs, and `starters` peels programs that start others.
"""
