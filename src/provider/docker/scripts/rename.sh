# Renames "$1" to "$2" as rename(2) does, and makes the directories above "$2". Comes after missing.sh.
[ -e "$1" ] || [ -L "$1" ] || missing "$1"
parent=${2%/*}
[ -z "$parent" ] || mkdir -p -- "$parent" || exit 99
if [ -d "$1" ] && [ ! -L "$1" ]; then
    case $2/ in "$1"/) exit 0 ;; "$1"/*) exit 122 ;; esac
    if [ -d "$2" ] && [ ! -L "$2" ]; then
        # Only an empty directory is replaced.
        rmdir -- "$2" || exit
    elif [ -e "$2" ] || [ -L "$2" ]; then
        exit 120
    fi
else
    [ "$1" != "$2" ] || exit 0
    [ ! -d "$2" ] || [ -L "$2" ] || exit 121
    # Two names of one file: nothing to do.
    [ -L "$1" ] || [ -L "$2" ] || [ ! "$1" -ef "$2" ] || exit 0
fi
exec mv -fT -- "$1" "$2"
