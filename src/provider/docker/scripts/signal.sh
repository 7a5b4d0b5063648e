# Sends the signal "$2" to what the launch with the token "$1" runs in the foreground: its init passes it on to the
# program's process group. Comes after processes.sh.

find_init 2>/dev/null && kill -s "$2" "$init" 2>/dev/null
exit 0
