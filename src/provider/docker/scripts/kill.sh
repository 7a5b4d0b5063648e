# Kills all that launches with the token "$1" have started, whatever session or parent it has taken. Comes after
# processes.sh.

rounds=0
while find_init 2>/dev/null; do
    # A stopped init neither ends nor lets go of orphans.
    kill -STOP "$init" 2>/dev/null
    # What is stopped starts nothing, so a fork bomb is stopped process by process before the first of them is killed.
    stopped=' '
    while :; do
        find_descendants 2>/dev/null
        fresh=
        for id in $alive; do
            case $stopped in *" $id "*) ;; *) fresh="$fresh $id" ;; esac
        done
        [ -n "$fresh" ] || break
        kill -STOP $fresh 2>/dev/null
        stopped="$stopped${fresh# } "
        [ "$((rounds += 1))" -lt 1000 ] || exit 1
    done
    while :; do
        find_descendants 2>/dev/null
        [ "$alive" != ' ' ] || break
        kill -KILL $alive 2>/dev/null
        [ "$((rounds += 1))" -lt 1000 ] || exit 1
    done
    kill -KILL "$init" 2>/dev/null
    [ "$((rounds += 1))" -lt 1000 ] || exit 1
done
exit 0
