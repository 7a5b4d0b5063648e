# Becomes the program in "$@", after the token by which the launch is found among the processes.
shift
exec "$@"
