# Removes "$1"; a directory that is not empty only if "$2" says "recursive". Comes after missing.sh.
if [ -d "$1" ] && [ ! -L "$1" ]; then
    [ "$2" = recursive ] || exec rmdir -- "$1"
    exec rm -rf -- "$1"
fi
[ -e "$1" ] || [ -L "$1" ] || missing "$1"
exec rm -f -- "$1"
