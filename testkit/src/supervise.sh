# Runs one server for one test process, and ends it with that process, however that one ends.
#
#   sh supervise.sh FOLDER SIGNAL PROGRAM ARGUMENT...
#
# Standard input is a pipe that only the test process holds: end of file means that the process is gone (returned,
# panicked, or was killed with a signal that nobody can catch). SIGNAL stops the server at that point. Until then each
# line is an order, answered by one line.
folder=$1 signal=$2
shift 2
server=

halt() {
    [ -z "$server" ] && return
    kill -s "$1" "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

finish() {
    trap '' HUP INT TERM
    halt "$signal"
    kill -s TERM -- "-$$" 2>/dev/null # what the server started itself; this shell leads the group and ignores it
    cd / || exit
    rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
    kill -s KILL -- "-$$"
}
trap finish HUP INT TERM

while read -r order what; do
    case $order in
    start)
        "$@" </dev/null >>"$folder/log" 2>&1 &
        server=$!
        echo "$server"
        ;;
    stop)
        halt "$what"
        echo stopped
        ;;
    esac
done
finish
