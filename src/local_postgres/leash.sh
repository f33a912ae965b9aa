# Stops the server and removes what is temporary when the process at the other end of standard input has gone.
#
# Words, one a line, each followed by its value:
#   remove DIRECTORY   to be removed at the end
#   data DIRECTORY     of the server, where its postmaster.pid is
#   initdb PID         a process group that is making a database
#   server SIGNAL PID  a server, and how it is to be told to stop: INT (fast) or QUIT (at once)
#   rest               nothing runs now
#   done               all is cleaned up already
# The end of the input without `done` means that our process died, or let go of us.

trap '' HUP INT QUIT TERM
data= group= signal= pid=

while read -r word value; do
    case $word in
        remove) set -- "$@" "$value" ;;
        data) data=$value ;;
        initdb) group=$value pid= ;;
        server) signal=${value% *} pid=${value#* } group= ;;
        rest) group= pid= ;;
        done) exit 0 ;;
    esac
done

nap() {
    sleep 0.05 2>/dev/null || sleep 1
}

# A server that nobody waits for may stay as a zombie, which `kill -0` still finds; but its file is gone.
stopped_after() {
    naps=$1
    while kill -0 "$pid" 2>/dev/null && [ -e "$data/postmaster.pid" ]; do
        [ "$naps" -gt 0 ] || return 1
        naps=$((naps - 1))
        nap
    done
}

if [ -n "$group" ]; then
    kill -s KILL -- "-$group" 2>/dev/null
fi

if [ -n "$pid" ]; then
    kill -s "$signal" "$pid" 2>/dev/null
    # 60 s for a fast stop, which writes a checkpoint; 10 s more at once; then by force.
    { [ "$signal" = INT ] && stopped_after 1200; } ||
        { kill -s QUIT "$pid" 2>/dev/null; stopped_after 200; } ||
        kill -s KILL "$pid" 2>/dev/null
fi

# Again and again for up to 10 s, because what was killed may still be writing for a moment.
for directory in "$@"; do
    naps=200
    until rm -rf -- "$directory" 2>/dev/null && [ ! -e "$directory" ]; do
        [ "$naps" -gt 0 ] || break
        naps=$((naps - 1))
        nap
    done
done
