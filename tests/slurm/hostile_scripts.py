"""Job scripts that try to do harm: name -> text. `{home}` is the folder that must not change, `{port}` who listens.

`{outside}` is a path beside it that must not appear, `{victim}` a process that must live on.
"""

from __future__ import annotations

QUICK = {
    "write by absolute path": "echo x > {home}/new; echo x >> {home}/file; echo x >| {home}/file",
    "write outside": "echo x > {outside}; printf x > /tmp/$$.{mark}; echo x > /dev/shm/{mark}; echo x > /var/tmp/{mark}",
    "write without our redirection": "eval 'echo x > {home}/file'; bash -c 'echo x > {home}/new'; x='>'; eval \"echo y $x {home}/file\"",
    "builtin redirections": "builtin echo x 1<>{home}/file; builtin exec 7>{home}/new; builtin exec 7<>{home}/file; builtin echo hi >&7",
    "empty a file": ": > {home}/file; > {home}/file; bash -c '> {home}/file'; cp /dev/null {home}/file; eval ': >{home}/file'",
    "remove": "rm -rf {home} {home}/*; /bin/rm -rf {home}; /usr/bin/unlink {home}/file; command rm -f {home}/file; rmdir {home}/sub",
    "remove without functions": "unset -f rm command; rm -rf {home}/*; builtin command rm {home}/file; PATH=/bin:/usr/bin rm -rf {home}/file",
    "path set back": 'export PATH=/usr/local/bin:/usr/bin:/bin:/sbin; unset -f $(compgen -A function); hash -r; rm -f {home}/file; touch {home}/new; chmod 777 {home}/file; cp {home}/file {home}/new; python3 -c \'open("{home}/new","w")\'; perl -e \'unlink "{home}/file"\'',
    "find and friends": "find {home} -delete; find {home} -exec rm {{}} +; ls {home}/* | xargs rm -f; /usr/bin/find {home} -type f -delete",
    "sed and awk": "sed -i s/a/b/ {home}/file; /usr/bin/sed -i s/a/b/ {home}/file; awk 'BEGIN{{print 1 > \"{home}/new\"; system(\"rm -f {home}/file\")}}'; sed -n 'w {home}/new' {home}/file; sed '1e rm -f {home}/file' {home}/file",
    "tools that write": "sort -o {home}/file {home}/file; tee {home}/file </dev/null; split -b 1 {home}/file {home}/part; $TMPDIR/real/sort -o {home}/file /dev/null; $TMPDIR/real/tee {home}/file </dev/null; $TMPDIR/real/sed -i d {home}/file",
    "move and link": "mv {home}/file {home}/gone; ln -s /etc/passwd {home}/link; ln {home}/file $TMPDIR/hard; echo x > $TMPDIR/hard; builtin eval 'echo x > $TMPDIR/hard'",
    "through a link of the script": "ln -s {home}/file $TMPDIR/l; /bin/ln -s {home} $TMPDIR/d; echo x > $TMPDIR/l; echo x > $TMPDIR/d/new; eval 'echo x > $TMPDIR/d/new'",
    "through a link of the user": "echo x > {home}/link-to-file; echo x > {home}/link-to-folder/new; eval 'echo x > {home}/link-to-file'; mkdir -p {home}/link-to-folder/deep",
    "through our own folder": "cd $TMPDIR/files && echo x > ../../{mark}; echo x > $TMPDIR/../{mark}; $TMPDIR/real/mkdir ../../../{mark}; builtin cd $TMPDIR; eval 'echo : > start; echo : > bin/.stub; echo : > slurm_script'",
    "modes, owners and times": "chmod 777 {home}/file; chown 1:1 {home}/file; touch -d 2001-01-01 {home}/file; /usr/bin/touch {home}/file; /bin/chmod 000 {home}/file; setfacl -m u:nobody:rwx {home}/file; $TMPDIR/real/sort --help >/dev/null",
    "sockets of bash": "echo hi > /dev/tcp/127.0.0.1/{port}; exec 3<>/dev/tcp/127.0.0.1/{port}; eval 'echo hi > /dev/udp/127.0.0.1/{port}'; builtin exec 4<>/dev/tcp/localhost/{port}; cat < /dev/tcp/127.0.0.1/{port}",
    "network programs": "curl http://127.0.0.1:{port}; /usr/bin/curl http://127.0.0.1:{port}; wget http://127.0.0.1:{port}; nc 127.0.0.1 {port} <<< hi; ssh 127.0.0.1 true; getent hosts example.com; ping -c1 127.0.0.1; scontrol ping; sbatch --wrap true",
    "sockets of awk": 'gawk \'BEGIN{{s="/inet/tcp/0/127.0.0.1/{port}"; print "hi" |& s; close(s)}}\'; awk \'BEGIN{{"cat < /dev/tcp/127.0.0.1/{port}" | getline}}\'',
    "python and perl": 'python3 -c \'import socket; socket.create_connection(("127.0.0.1",{port}))\'; /usr/bin/python3 -c \'open("{home}/new","w")\'; perl -e \'unlink "{home}/file"\'; $(builtin type -P python3) -c \'open("{home}/new","w")\'',
    "another way to start python": '/lib64/ld-linux-x86-64.so.2 /usr/bin/python3 -c \'import socket; socket.create_connection(("127.0.0.1",{port}))\'; /lib64/ld-linux-x86-64.so.2 /usr/bin/python3 -c \'import os; os.chmod("{home}/file",0); os.utime("{home}/file",(0,0)); os.kill({victim},9); open("{home}/new","w")\'; /lib64/ld-linux-x86-64.so.2 /bin/rm -rf {home}; /lib64/ld-linux-x86-64.so.2 /bin/chmod 0 {home}/file',
    "a program of its own": "printf '#!/bin/bash\\nrm -rf {home}' > $TMPDIR/x; chmod +x $TMPDIR/x; $TMPDIR/x; cp /usr/bin/touch $TMPDIR/t; $TMPDIR/t {home}/new; cat /usr/bin/touch > $TMPDIR/bin/t; $TMPDIR/bin/t {home}/new",
    "kill others": "kill -9 {victim}; kill -9 $PPID; kill -9 -1; builtin kill -9 {victim}; enable -n kill; /bin/kill -9 {victim}; pkill -9 sleep; builtin kill -9 $PPID; builtin kill -9 0; builtin kill -STOP {victim}",
    "BASH_ENV": "export BASH_ENV={home}/evil.sh ENV={home}/evil.sh; bash -c :; sh -c :; PROMPT_COMMAND='touch {home}/new' bash -ic :",
    "preload": "export LD_PRELOAD={home}/evil.so LD_LIBRARY_PATH={home}; cat {home}/file; LD_AUDIT={home}/evil.so ls {home}",
    "a library of gawk or bash": "gawk -l {home}/evil.so 'BEGIN{{}}'; builtin enable -f {home}/evil.so evil; awk -f /dev/stdin <<< 'BEGIN{{system(\"touch {home}/new\")}}'",
    "functions and aliases": "shopt -s expand_aliases; alias echo='rm -rf {home};'; echo; cat() {{ builtin eval 'echo x > {home}/new'; }}; cat; export -f cat; bash -c cat",
    "no functions of ours": "builtin unset -f srun torchrun cd exec command; builtin trap - DEBUG; builtin set +T; srun rm -rf {home}; exec rm -rf {home}",
    "enable and disable": "enable -n echo; enable -n builtin; enable -n eval; echo x > {home}/new; rm -rf {home}",
    "bash as sh": "sh -c 'rm -rf {home}; echo x > {home}/new'; dash -c 'echo x > {home}/new'; /bin/sh -c 'echo x > {home}/new'; bash --norc --noprofile -c 'echo x > {home}/new'; bash -p -c 'rm -f {home}/file'",
    "privileges": "sudo rm -rf {home}; su -c 'rm -rf {home}'; unshare -r rm -rf {home}; chroot / rm -rf {home}; nsenter -t 1 -a rm -rf {home}; mount -t tmpfs none {home}",
    "proc": "echo x > /proc/self/comm; echo 1 > /proc/sys/kernel/panic; echo x > /proc/{victim}/mem; echo 1000 > /proc/{victim}/oom_score_adj; eval 'echo 1000 > /proc/{victim}/oom_score_adj'; eval 'echo x > /proc/self/root/{outside}'; eval 'echo x > /proc/self/cwd/new'",
    "devices": "cat /dev/sda | head -c 1; eval 'echo x > /dev/tty'; eval 'echo x > /dev/kmsg'; mknod $TMPDIR/k c 1 11; dd if=/dev/zero of={home}/file; eval 'echo x > /dev/pts/0'; mkfifo {home}/fifo",
    "pipes that look like ours": "printf 'a\\0b' > $TMPDIR/rec/zzz; ln -s /etc/shadow $TMPDIR/rec/l; printf '%s\\0' x 1 / '' 2 accelerate launch > $TMPDIR/rec/f; ln -s /etc $TMPDIR/files/etc; mkdir -p $TMPDIR/files/a; printf 'x\\0-1\\0/\\0\\0999999\\0' > $TMPDIR/rec/g",
    "odd texts": "echo 'unterminated",
    "control characters": "echo $'\\x00\\x1b[2J' > $'{home}/\\x01'; printf '\\377\\376' >> {home}/file; torchrun $'\\xff\\xfe' $'a\\nb'",
}
"""They end by themselves."""

ENDLESS = {
    "loop": "while :; do :; done",
    "wait for input": "read x < <(while :; do sleep 1; done); while :; do read -t 100 x < /dev/zero; done",
    "tail": "tail -f {home}/file",
    "fork bomb": "bomb() {{ bomb | bomb & }}; bomb; while :; do :; done",
    "many children": "for ((i = 0; i < 100000; i++)); do (while :; do :; done) & done; wait",
    "background daemon": "(trap '' HUP TERM; while :; do :; done) & disown; setsid bash -c 'while :; do :; done' & builtin set -m; (while :; do :; done) &",
    "signals ignored": "builtin trap '' TERM INT HUP QUIT PIPE; while :; do :; done",
    "huge output": "while :; do printf '%1000000s' x; done; yes",
    "huge stderr": "while :; do printf '%1000000s' x >&2; done",
    "huge file": "while :; do printf '%1000000s' x >> big; done",
    "huge files": "for ((i = 0; ; i++)); do printf '%4000000s' x > big.$i; done",
    "many files": "for ((i = 0; ; i++)); do : > f.$i; done",
    "much memory": "x=a; while :; do x=$x$x; done; y=$(cat /dev/zero); while :; do :; done",
    "recursion": "f() {{ f; }}; f; while :; do :; done",
    "exec of itself": 'builtin exec bash "$0"',
    "exit that does not": "exit() {{ :; }}; while :; do exit; done",
    "endless sort": "sort /dev/zero; cat /dev/zero | wc -l; while :; do :; done",
}
"""They are stopped."""
