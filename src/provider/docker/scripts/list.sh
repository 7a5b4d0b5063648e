# Tells of each entry of the directory "$1": mode in hexadecimal, size, time in seconds, time to be read by people, name.
# No name contains a slash, so slashes separate. Then the same again for what symbolic links lead to.
cd "$1" || exit 113
find . -mindepth 1 -maxdepth 1 -exec stat -c '%f %s %Y %y/%n/' {} +
find . -mindepth 1 -maxdepth 1 -type l -exec stat -L -c '%f %s %Y %y/%n/' {} + 2>/dev/null
exit 0
