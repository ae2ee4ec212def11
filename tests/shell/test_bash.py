"""The reader makes of a text what bash makes of it: our own snippets, run in a real bash and read."""

from __future__ import annotations

import random

import pytest
from bash_words import calls_in_bash, calls_read

QUOTES = [
    "a='x y'; show $a \"$a\" '$a' \\$a",
    "show $'a\\tb\\x41\\n' a\\ b '' x",
    'show "a\\"b" "a\\nb" "\\$x" "`echo hi`"',
    'x=; show $x "$x" a$x',
    "x=' a  b '; show $x -$x- \"-$x-\"",
    "show a\"b\"'c'd $((1+1))x",
    'show ~ ~/x a~ "~" ~+x',
    "x='*'; show \"$x\" '*'",
]
ARGUMENTS = [
    'show "$@"; show $@; show "$*"; show $*; show $# $1 "$2" "$3" x',
    'shift; show "$@"; set -- a b c; show "${@:2}" "${@:2:1}" $#',
    'show "a$@b"; set --; show "$@"; show "a$@b" "$*"',
    "set -- {1..12}; show ${10} $10 ${#}",
    'set -- a b; show "${02}" "${000000000001}" "${1234567890123}" "${3}"; set --; show "${01}"',
    'test "${00}" = "$0" && show same',
    'set -euo pipefail; show "$@"',
    'set -x -- q; show "$@"',
    'f() { show "$@" $#; local x=2; y=3; }; x=1; f a "b c"; show $x $y',
    "f() { local x; x=5; g; }; g() { show $x; x=6; }; x=1; f; show $x",
    "f() { return 3; }; f && show yes || show no",
    'f() { echo out; }; show $(f) "$(f; f)"',
    "f () { show in; }; function g { show g; }; function h() { show h; }; f; g; h",
]
PARAMETERS = [
    "x=a/b/c.tar.gz; show ${x##*/} ${x%%.*} ${x%.gz} ${x#a/} ${x#*/} ${x%/*} ${x%%/*}",
    "x=; show ${x:-d} ${x-e} ${y-f} ${x:+g} ${y+h} ${z:=i} $z ${#x}",
    'show ${y:-a b} "${y:-a b}" ${y:-"a b"} "${y:-\'q\'}" ${y:-\'q r\'}',
    "x=hello; show ${x:1} ${x:1:2} ${x: -2} ${x:0:-1} ${x:9} ${#x}",
    "x=banana; show ${x/a/o} ${x//a/o} ${x/#b/B} ${x/%a/A} ${x//an} ${x/x/y} ${x//[an]/-} ${x/b*n/_}",
    "x=hello; show ${x^} ${x^^} X${x,,} ; y=ABC; show ${y,} ${y,,}",
    "a=b; b=c; show ${!a}; x_1=p; x_2=q; show ${!x_*}",
    "x='a.b'; show ${x%.*} ${x#*.} ${x%\".b\"} ${x//./_}",
    "x=abc; p='?b'; show ${x#$p} ${x#\"$p\"}",
    'x=a:b:c; show ${x##*:} ${x%%:*} ${x//:/ } "${x//:/ }"',
    "x=foo; show ${x:-${y:-z}} ${y:-${x}} ${y:-$(echo q)}",
    "x='[ab]'; case a in $x) show pat ;; esac; case a in \"$x\") show no ;; *) show lit ;; esac",
    "x=aXbXc; show ${x%X*} ${x%%X*} ${x#*X} ${x##*X}",
    "x='+([0-9])'; shopt -s extglob; show ${x:0:2}",
]
ARRAYS = [
    'a=(1 \'two words\'); a+=(3); show "${a[@]}" ${#a[@]} ${a[1]} "${a[-1]}" $a',
    'a=(x y z); show ${!a[@]} ${a[@]:1} ${a[@]:1:1} "${a[*]}" ${#a[0]}',
    'a=(1 2 3); a[5]=q; show ${!a[@]} ${#a[@]} "${a[@]}"; unset \'a[1]\'; show "${a[@]}"',
    'declare -A m=([x]=1 ["y z"]=2); m[w]=3; show ${m[x]} "${m[y z]}" ${m[w]} ${#m[@]}',
    "declare -A m; m[a.b]=1; k=a.b; show ${m[$k]} ${m[none]:-d}",
    'a=(a.txt b.txt); show ${a[@]%.txt} "${a[@]/#/pre-}" ${a[@]^}',
    'a=(); show "${a[@]}" x; show ${#a[@]} "${a[@]:-none}"',
    'a=($(echo 1 2 3)); for i in "${!a[@]}"; do show $i ${a[$i]} ${a[i]} ${a[$((2-i))]}; done',
    "a=(\n one # comment\n 'two 2'\n)\nshow \"${a[@]}\"",
    'a=([3]=c [1]=a b); show "${a[@]}" ${!a[@]}',
    "x=5; a=(0 1 2 3 4 5 6); show ${a[x-1]} ${a[$x]} ${a[x>3?0:1]}",
    'IFS=, ; a=(1 2); show "${a[*]}"; IFS=-; show "$*"',
    'a=(1 2 3); b=("${a[@]}" 4); show ${b[@]} ${#b[@]}; a=x; show ${a[0]} ${a[@]}',
    'declare -a l; l+=(--x 1); l+=(--y "a b"); show "${l[@]}"',
    "readarray -t r <<< $'l1\\nl 2'; show \"${r[@]}\" ${#r[@]}; mapfile -t q < <(printf 'a\\nb\\n'); show ${q[1]}",
]
BRACES = [
    "show {a,b}-{1,2} {1..4} {4..1} {1..9..3} {a..e} {01..03} {-1..1}",
    "show x{,y} {a,b{1,2}} {a} {} {,} a{b \"{a,b}\" '{1..2}' \\{a,b}",
    "x=v; show {$x,w}.y {1..$x} ${x}{1,2} {a,'b c'}",
    "for i in {0..3} {10..30..10}; do show $i; done",
    "show {a..c}{1..2} {10..8} {1..3..-1} {a,b,}",
]
NUMBERS = [
    "show $((2*(3+4)/2)) $((010)) $((16#ff)) $((0x1F)) $((2#101)) $((-7/2)) $((-7%3)) $((2**10))",
    "x=3; show $((x+1)) $(($x*2)) $((x>2?10:20)) $((x==3&&1)) $((!x)) $((~x)) $((x<<2)) $((x|4)) $((x^1)) $((1,2))",
    "x=1; ((x++)); show $x; ((x+=5)); show $x $((x--)) $x $((--x)) $((++x)); let x=x*2; show $x",
    "x=; show $((x+1)) $((nope+2)); y=x; x=4; show $((y*2))",
    "((5>3)) && show yes; ((0)) || show no; if ((1-1)); then show a; else show b; fi",
    "a=(4 5); show $((a[1]+1)) $((a[0]*a[1])); ((a[0]=9)); show ${a[0]}",
    "x=5; show $(( x > 3 ? x < 10 ? 1 : 2 : 3 )) $((x = x + 1, x * 2)) $x",
    "show $((1?2:3)) $((0?2:3)) $((1||0)) $((0||0)) $((1&&0)) $(( 1 - -1 )) $((- - 5))",
    "n=8; show $((n/3)) $((n%3)) $(( (n+2)/3 )) $(expr 3 + 4) $(expr $n \\* 2) $(expr $n / 3)",
    "x=0; while ((x<3)); do show $((x++)); done",
    "show $((9223372036854775807+1)) $((1<<63))",
]
LOOPS = [
    "for ((i=0; i<3; i++)); do show $i; done; show end $i",
    "for ((i=3, j=0; i>0; i--, j+=2)) do show $i $j; done",
    "for ((;;)); do show x; break; done",
    "for x in a 'b c' $(echo d e); do show \"$x\"; done",
    'for x; do show "$x"; done',
    "for x in 1 2 3; do [ $x = 2 ] && continue; show $x; done",
    "for x in 1 2; do for y in 1 2; do [ $y = 2 ] && continue 2; [ $x = 2 ] && break 2; show $x$y; done; done",
    "i=0; until [ $i -ge 2 ]; do show $i; i=$((i+1)); done",
    "while read -r l; do show \"$l\"; done <<< $'a b\\nc'",
    "printf '1 x\\n2 y\\n' | while read n w; do show $w $n; done",
    'while IFS== read -r k v; do show "$k" "$v"; done <<EOF\na=1\nb=2=3\nEOF',
    "while read -r a b; do show $a; done < <(echo 1 2; echo 3 4)",
    "n=0; while :; do n=$((n+1)); if [ $n -gt 3 ]; then break; fi; done; show $n",
    "set -- --a 1 --b; while [[ $# -gt 0 ]]; do case $1 in --a) a=$2; shift 2 ;; --b) b=yes; shift ;; esac; done; show $a $b",
    'set -- -m x -b 3 rest; while getopts \'m:b:v\' o; do show $o "$OPTARG"; done; shift $((OPTIND-1)); show "$@"',
    "set -- -vb3 -m q; while getopts 'm:b:v' o; do show $o \"$OPTARG\"; done; show $OPTIND",
]
READS = [
    'IFS=, read a b c <<< \'x,y z,w,v\'; show "$a" "$b" "$c"',
    'IFS=: read -r a b <<< \'x\'; show "$a" "$b"; read a b <<< \'1 2 3\'; show $a "$b"',
    "IFS=, read -ra l <<< 'a,b,,c'; show \"${l[@]}\"; IFS=', ' read -a m <<< 'a, b ,c'; show \"${m[@]}\"",
    "read -r -d '' v <<EOF\na $USER\n b\nEOF\nshow \"$v\"",
    "read -r x <<< '  pad  '; show \"$x\"; IFS= read -r x <<< '  pad  '; show \"$x\"; read <<< ' r s '; show \"$REPLY\"",
    "IFS=,; x=a,b,,c; show $x; unset IFS; show $x; x=',a,'; IFS=,; show $x",
    "x='a:b c:d'; IFS=:; set -- $x; show \"$@\"; IFS=$' \\t\\n'; show $x",
    "printf -v x '%03d-%s' 7 abc; show $x; printf -v y '%s,' a b c; show ${y%,}",
    "show \"$(printf '%s\\n' a b)\" $(printf '%d %x %5s|%-4s|' 5 255 ab cd) $(printf '%.2f' 3.14159)",
    "show $(echo -e 'a\\tb') $(echo -n x) \"$(echo -ne 'p\\nq')\" $(echo -E 'a\\tb')",
    'IFS=_ read -r p q <<< \'a_b_\'; show "$p" "$q"; IFS=_ read -r p q <<< \'a__b\'; show "$p" "$q"',
]
CONDITIONS = [
    "if [[ -z $x && 3 -lt 10 ]]; then y=1; else y=2; fi; show $y",
    "[[ abc == a* ]] && show 1; [[ abc == 'a*' ]] || show 2; [[ abc != b* ]] && show 3; [[ b > a ]] && show 4",
    '[[ v1.25 =~ ^v([0-9]+)\\.([0-9]+)$ ]] && show ${BASH_REMATCH[1]} ${BASH_REMATCH[2]} "${BASH_REMATCH[0]}"',
    "[ 3 -gt 2 -a 1 -eq 1 ] && show a; [ x = y -o 1 = 1 ] && show b; ! [ -n '' ] && show c; [ ! -z x ] && show d",
    '[[ ( 1 -eq 2 || 3 -eq 3 ) && ! x == y ]] && show grouped; [[ -n "a b" ]] && show n',
    "x=5; if test $x -ge 5; then show ge; elif false; then show f; else show e; fi",
    "case abc in a|b) show 1 ;; a*|z) show 2 ;; *) show 3 ;; esac",
    "case x in x) show 1 ;& y) show 2 ;; z) show 3 ;; esac; case q in q) show a ;;& ?) show b ;; esac",
    "case 'a b' in 'a b') show yes ;; esac; case $1 in o??) show one ;; esac; case 7 in [0-9]) show digit ;; esac",
    "true && show a || show b; false && show c || show d; ! true || show e; true; show $?; false; show $?",
    "[ -f /nope ] || show nofile; [ -d / ] && show dir; [[ -e /etc ]] && show e; [ -v HOME ] && show v",
    "x=abc; [[ $x == *b* ]] && show has; [[ $x == ??? ]] && show three; [[ -z ${y+set} ]] && show unset",
    "[[ 'a b' =~ a\\ b ]] && show sp; re='^[a-c]+$'; [[ abc =~ $re ]] && show re; [[ abd =~ $re ]] || show not",
    "if grep -q b <<< abc; then show found; fi; if ! echo abc | grep -q z; then show missing; fi",
    '[ "$x" ] || show empty; [ a ] && show one; [[ $x ]] || show e2; [ \'\' = "$x" ] && show same',
]
TEXTS = [
    "cat <<EOF > f.txt\nk: 1\nname: $USER\nv=$((1+1)) `echo q`\nEOF\nshow \"$(cat f.txt)\" $(grep k: f.txt | cut -d' ' -f2)",
    'cat > g.txt <<\'EOF\'\n$USER \\x\nEOF\nshow "$(< g.txt)"; x=$(cat <<-E\n\ttabbed\n\tE\n); show "$x"',
    "printf 'a=1\\nb=22\\n' > h.cfg; show $(grep ^b h.cfg | awk -F= '{print $2}') $(sed -n 's/^a=//p' h.cfg) $(wc -l < h.cfg)",
    "echo 'x: 5' > i.y; sed -i 's/5/7/' i.y; show \"$(cat i.y)\"; echo more >> i.y; show $(tail -n 1 i.y) $(head -1 i.y)",
    "show $(echo a b c | awk '{print $2}') $(echo a:b:c | cut -d: -f2,3) $(echo a,b | tr , ' ') $(echo ABC | tr A-Z a-z) $(echo a-b | sed 's/-/_/g')",
    "show $(printf 'c\\na\\nb\\n' | sort | head -n 2) $(printf '3\\n10\\n' | sort -n | tail -1) $(printf 'a\\na\\nb\\n' | uniq | wc -l)",
    "show $(seq 3) $(seq 2 2 6) $(seq -s, 3) $(seq -w 8 10) $(printf '1\\n2\\n' | paste -sd,) $(echo 'x=3;y=4' | grep -o '[a-z]=[0-9]' | tail -n1)",
    "show $(basename /a/b.sh .sh) $(dirname /a/b/c) $(dirname x) $(basename /a/) $(dirname /) $(echo /a/b | xargs dirname)",
    "show $(echo hello | sed -E 's/(l+)o/<\\1>/') $(echo a.b.c | awk -F. '{print $NF, NF, $1}') $(echo x | sed 's|x|/y|')",
    "show $(printf 'k: v\\nz: w\\n' | awk '/^z/ {print $2}') $(printf 'a 1\\nb 2\\n' | awk '$1==\"b\" {print $2}') $(printf 'a\\nb\\nc\\n' | sed -n 2p) $(printf 'a\\nb\\n' | awk 'NR==2')",
    "show $(echo '  a   b ' | xargs) $(echo 12abc34 | tr -dc 0-9) $(echo aabb | tr -s ab) $(echo abc | rev) $(printf 'x\\ny\\n' | tac) $(echo hello | cut -c2-3)",
    "show $(grep -c a <<< $'a\\nb\\na') $(grep -v a <<< $'a\\nb') $(grep -oP 'v=\\K\\d+' <<< 'v=42') $(grep -E 'a|c' <<< $'a\\nb\\nc') $(grep -i B <<< b) $(grep -w ab <<< $'abc\\nab')",
    'x=$(cat <<E\na "q" \'r\' \\$z\nE\n); show "$x"',
    "echo one > j; { echo two; echo three; } >> j; show $(cat j); (echo sub) > k; show $(<k); tee l <<< t > /dev/null; show $(cat l)",
    "mkdir -p d/e; touch d/e/f.x d/e/g.x; show d/e/*.x; for f in d/e/*; do show ${f##*/}; done; show nomatch*.zz",
    'show "$(cd / && pwd)" $(cd /usr; cd ..; pwd) "$(pwd | wc -l)"; cd /; show $PWD $OLDPWD | true; cd - >/dev/null',
    "pushd / > /dev/null; show $PWD; popd > /dev/null; (cd /usr; show $PWD); cd /usr/..; show $PWD",
    'show "$(echo "$(echo "a b")")" `echo \\`echo n\\`` $(echo $(echo a) $(echo b))',
    "x=$(true) && show ok; x=$(false) || show bad; x=$(echo v; false); show $? $x",
    'echo "a b" | { read x y; show $y $x; }; x=1; (x=2); show $x; { x=3; }; show $x; echo q | x=5; show $x',
    "eval 'show a\\ b'; c='show \"x y\"'; eval \"$c\"; eval show '$HOME'; c='show p q'; $c",
    'export A=1 B="2 3"; show $A "$B"; declare C=4; readonly D=5; show $C $D; A=9 true; show $A; unset A; show "${A-gone}"',
    "echo 's=7; show $1 $#' > src.sh; . ./src.sh arg; show $s; source ./src.sh; echo 'return 0; show no' > r.sh; . ./r.sh; show after",
    "bash_like() { eval \"$1\"; }; bash_like 'show in $HOME'; v=HOME; show ${!v}; unset -f bash_like",
    'x=\'a\nb\'; show $x "$x"; show "a\nb" $(echo "$x" | wc -l) "${x//$\'\\n\'/,}"',
    "show a & wait; show b; time show c; ! show d; { show e; } 2>&1; show f >/dev/null 2>&1 | cat; show g",
    "builtin echo x > m; show $(cat m); \\show b; exec 3>&1; show c >&3; exec true; show no",
    "trap 'echo x' EXIT; trap - EXIT; show a; exit 0; show b",
    "show $(echo 'a # b') # comment\nshow x#y '#z' \\\n  cont",
]
GROUPS = [QUOTES, ARGUMENTS, PARAMETERS, ARRAYS, BRACES, NUMBERS, LOOPS, READS, CONDITIONS, TEXTS]


@pytest.mark.parametrize("texts", GROUPS, ids=range(len(GROUPS)))
def test_words_are_those_of_bash(texts, tmp_path):
    (tmp_path / "bash").mkdir()
    (tmp_path / "read").mkdir()
    real = calls_in_bash(texts, tmp_path / "bash")
    folders = (str(tmp_path / "bash"), str(tmp_path / "read"))
    wrong = []
    for text, words in zip(texts, real, strict=True):
        assert words, f"bash calls nothing in {text!r}"
        calls = [[word.shown for word in call] for call in calls_read(text, tmp_path / "read")]
        calls = [[word.replace(folders[1], folders[0]) for word in call] for call in calls]
        if calls != words:
            wrong.append((text, words, calls))
    assert not wrong, "\n".join(
        f"{text}\n  bash {words}\n  read {calls}" for text, words, calls in wrong
    )


WORDS = [
    "a", "-x", "'b c'", '"$v"', "$v", "$w", "${v}t", '"$@"', "$1", "${#v}", "$((n+1))", "$((n*n-2))",
    "{1..3}", "{x,$v}", "${v:-d}", "${e:-d}", "${e:+q}", "${v%% *}", "${v#* }", "${v// /_}", "${l[1]}",
    '"${l[@]}"', "${#l[@]}", "${l[@]:1}", "$(echo $v)", '"$(echo "$w")"', "${v^^}", "${p##*/}",
    "${p%/*}", "$(basename $p)", "${v:1:3}", "`echo $n`", "$'t\\tu'", "\\$v", '"${l[*]}"', "${!r}", "${m[k]}",
    "${w/y/$n}", "$(dirname $p)", '"a${v}b"', "${l[n-2]}", "${p//\\//:}",
]  # fmt: skip
STEPS = [
    "v='{0}'", "v=${{v}}{0}", "n=$((n+{1}))", "((n*={1}))", "l+=({0} \"$v\")", "l[{1}]=$n", "p=$p/{0}",
    "for i in {0} $n; do v=$i; done", "[[ $v == *a* ]] && w=$v", "if [ $n -gt {1} ]; then n={1}; else w=z; fi",
    "case $v in {0}*) w=hit ;; *) w=miss ;; esac", "f() {{ v=\"$1\"; }}; f \"$w\"", "IFS=, read v w <<< '{0},q r'",
    "for ((i=0; i<{1}; i++)); do n=$((n+i)); done", "unset e; e=${{v:0:{1}}}", "m[k]={0}", "set -- {0} \"$v\"",
    "(v=sub; n=0)", "w=$(printf '%s-' {0} $n)", "v=$(echo \"$w\" | tr a-m A-M)", "while [ $n -lt {1} ]; do n=$((n+1)); done",
    "shift", "read -ra l <<< \"$v {0} $n\"", "local_() {{ local v=in; w=$v; }}; local_", "w=${{w%%{0}*}}x",
]  # fmt: skip
BEGIN = "v='x y'; w='  lead z'; n=3; l=(l0 'l 1' l2); p=/a/b.c; r=v; declare -A m=([k]=mk)\n"


def test_made_up_scripts_have_the_words_of_bash(tmp_path):
    """300 scripts of steps and words drawn by chance: what is known is right, and nearly everything is known."""
    rng = random.Random(20)
    texts = []
    for _ in range(300):
        steps = [rng.choice(STEPS).format(rng.choice(["ab", "q", "x1"]), rng.randint(1, 5)) for _ in range(rng.randint(1, 5))]  # fmt: skip
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))
        texts.append(BEGIN + rng.choice("\n;").join(steps) + f'\nshow {words}; show END $n "$v"')
    real = calls_in_bash(texts, tmp_path)
    unknown, wrong = 0, []
    for text, words in zip(texts, real, strict=True):
        calls = calls_read(text, tmp_path)
        if any(word.known is None for call in calls for word in call):
            unknown += 1
        elif [[word.shown for word in call] for call in calls] != words:
            wrong.append((text, words, [[word.shown for word in call] for call in calls]))
    assert not wrong, "\n".join(
        f"{text}\n  bash {words}\n  read {calls}" for text, words, calls in wrong[:5]
    )
    assert unknown <= 3
