# Makes the directory "$1" and tells, each ended by NUL: who this is, where the directory really is, the symbolic links
# below it, nothing, the directories below it.
mkdir -p -- "$1" || exit 99
cd "$1" || exit 113
printf '%s\0%s\0%s\0' "$(id -u)" "$(id -g)" "$(pwd -P)"
find . -xdev -type l -print0
printf '\0'
find . -xdev -type d -print0
exit 0
