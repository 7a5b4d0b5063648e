# Makes the file "$1" of what comes on standard input, less the 32 characters "$2" at its end: they tell that it came in
# full. It is written to "$3" in the same directory, which then takes its place. "$4" is its mode; empty for the old
# file's, or 644. Says how many bytes it has.
umask 022
path=$1
parent=${path%/*}
[ -z "$parent" ] || mkdir -p -- "$parent" || exit 99
if [ -L "$path" ]; then
    # A link is written through.
    path=$(readlink -f -- "$path") || exit 140
    parent=${path%/*}
fi
[ ! -d "$path" ] || exit 121
mode=$4
if [ -e "$path" ]; then
    [ -f "$path" ] || exit 98
    [ -n "$mode" ] || mode=$(stat -c %a -- "$path")
fi
new=$parent/$3
trap 'rm -f -- "$new"' EXIT
# 128 + SIGXFSZ: more than disk_mb.
cat >"$new" || case $? in 153) exit 153 ;; *) exit 1 ;; esac
size=$(($(wc -c <"$new") - 32))
[ "$size" -ge 0 ] && [ "$(tail -c 32 -- "$new")" = "$2" ] || exit 97
dd if=/dev/null of="$new" bs=1 seek="$size" 2>/dev/null || exit 1
chmod -- "${mode:-644}" "$new" || exit 1
mv -fT -- "$new" "$path" || exit 1
trap - EXIT
echo "$size"
