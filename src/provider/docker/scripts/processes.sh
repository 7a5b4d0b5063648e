# What kill.sh and signal.sh know of the processes. Nothing here starts one: a sandbox that has as many as it may must
# still be stopped. "$1" is the token of a launch.

token=$1

# Sets $parent and $state of the process in the directory "$1".
look_at() {
    parent= state=
    while read -r key value rest; do
        case $key in
            State:) state=$value ;;
            PPid:) parent=$value; return ;;
        esac
    done <"$1/status"
}

# Sets $init to the process that adopts all that the launch has started: what came from outside has no parent here.
find_init() {
    for directory in /proc/[0-9]*; do
        init=${directory#/proc/}
        [ "$init" = 1 ] || [ "$init" = $$ ] && continue
        look_at "$directory"
        [ "$parent" = 0 ] && [ "$state" != Z ] || continue
        while read -r line || [ -n "$line" ]; do
            case $line in
                /sbin/docker-init*"$token"*) return 0 ;;
                *"$token"*) break ;;
            esac
        done <"$directory/cmdline"
    done
    return 1
}

# Sets $alive to the descendants of $init that live.
find_descendants() {
    family=" $init " alive=' ' all= grown=1
    for directory in /proc/[0-9]*; do
        look_at "$directory"
        [ -z "$parent" ] || all="$all ${directory#/proc/}:$parent:$state"
    done
    while [ "$grown" = 1 ]; do
        grown=0
        for process in $all; do
            id=${process%%:*} process=${process#*:}
            case $family in *" $id "*) continue ;; esac
            case $family in *" ${process%:*} "*) ;; *) continue ;; esac
            grown=1
            family="$family$id "
            case ${process#*:} in Z | X) ;; *) alive="$alive$id " ;; esac
        done
    done
}
