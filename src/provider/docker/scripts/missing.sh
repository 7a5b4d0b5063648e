# Ends with 100 + errno for a path "$1" that does not exist: ENOTDIR when it leads through a file, else ENOENT.
missing() {
    up=${1%/*}
    while [ -n "$up" ] && [ ! -e "$up" ]; do up=${up%/*}; done
    [ -z "$up" ] || [ -d "$up" ] || exit 120
    exit 102
}
