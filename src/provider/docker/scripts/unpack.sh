# Makes the directory "$1" and tells who it is, where the directory really is, and its symbolic links, each ended by NUL.
mkdir -p -- "$1" || exit 99
cd "$1" || exit 113
printf '%s\0%s\0%s\0' "$(id -u)" "$(id -g)" "$(pwd -P)"
exec find . -type l -print0
