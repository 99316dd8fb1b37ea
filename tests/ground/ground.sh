# Shared by up, down and registry: where things are, and how daemons are started, asked and stopped.
# shellcheck shell=bash

set -euo pipefail
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
ground=$(readlink -m -- "${IMAGEBUILD_GROUND:-/var/tmp/imagebuild-ground}")
registry=127.0.0.1:5000

say() { printf 'ground: %s\n' "$*" >&2; }

# fail MESSAGE [LOG]
fail() {
    say "$1"
    if [ -s "${2:-}" ]; then
        say "the end of $2:"
        tail -n 30 -- "$2" >&2
    fi
    exit 1
}

# One 'up', 'down' or 'registry' at a time. Daemons must not inherit descriptor 9, or they would keep the lock.
take_lock() {
    [ "$(id -u)" = 0 ] || fail "this needs root: it starts Docker engines."
    mkdir -p "$ground"
    exec 9> "$ground/lock"
    flock -w 900 9 || fail "another process has held $ground/lock for 15 minutes."
}

# launch NAME COMMAND...: start a daemon in a session of its own, with its output in log/NAME.
launch() {
    local name=$1
    shift
    mkdir -p "$ground/run" "$ground/log"
    setsid "$@" > "$ground/log/$name" 2>&1 < /dev/null 9>&- &
    echo "$! $(start_time $!)" > "$ground/run/$name"
    disown
}

# alive NAME: whether the process that `launch NAME` started still runs. Its start time guards against a reused id.
alive() {
    local pid started
    { read -r pid started < "$ground/run/$1"; } 2> /dev/null && [ "$(start_time "$pid")" = "$started" ]
}

start_time() {
    local stat
    { stat=$(< "/proc/$1/stat"); } 2> /dev/null || return 0
    # The name, field 2, may hold spaces; the start time is field 22 (proc(5)), a zombie counts as gone.
    read -r -a stat <<< "${stat##*) }"
    [ "${stat[0]}" = Z ] || echo "${stat[19]}"
}

# wait_for NAME SECONDS COMMAND...: until COMMAND succeeds; fail with the log when NAME ends or the time is over.
wait_for() {
    local name=$1 until=$((SECONDS + $2))
    shift 2
    until "$@" > /dev/null 2>&1; do
        alive "$name" || fail "$name ended before it answered." "$ground/log/$name"
        [ "$SECONDS" -lt "$until" ] || fail "$name does not answer." "$ground/log/$name"
        sleep 0.1
    done
}

# stop NAME SECONDS: ask the daemon to end; end its process group when it does not.
stop() {
    local name=$1 until=$((SECONDS + $2)) pid
    if alive "$name"; then
        read -r pid _ < "$ground/run/$name"
        kill -TERM "$pid" 2> /dev/null || true
        while alive "$name" && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
        if alive "$name"; then
            say "$name does not stop; killing it"
            kill -KILL -- "-$pid" 2> /dev/null || true
            until=$((SECONDS + 5))
            while alive "$name" && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
        fi
    fi
    rm -f "$ground/run/$name"
}

# registry_answers PATH: whether the registry answers HEAD with 200.
registry_answers() (
    exec 3<> "/dev/tcp/${registry%:*}/${registry#*:}"
    printf 'HEAD %s HTTP/1.0\r\nAccept: application/vnd.docker.distribution.manifest.v2+json\r\n\r\n' "$1" >&3
    read -r -t 10 line <&3
    [[ $line == *" 200 "* ]]
) 2> /dev/null

start_registry() {
    if alive registry && registry_answers /v2/; then return; fi
    stop registry 5
    if registry_answers /v2/; then fail "another registry answers on $registry; stop it first."; fi
    mkdir -p "$ground/registry"
    cat > "$ground/registry.yml" << END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $ground/registry}, delete: {enabled: true}}
http: {addr: "$registry"}
END
    launch registry docker-registry serve "$ground/registry.yml"
    wait_for registry 30 registry_answers /v2/
}

stop_registry() { stop registry 10; }

# The two engines: a bridge with its address, the net that its subnet and all user-made networks lie in, and where the programs lie.
# An engine that starts empties Docker's chains of packet rules, also those of the other, so only one may write them.
engine() {
    name=$1 home=$ground/$1
    case $name in
        debian) bridge=imagebuild0 mac=02:42:0a:d5:fe:01 net=10.213 root='' rules=docker ;;
        current) bridge=imagebuild1 mac=02:42:0a:d6:fe:01 net=10.214 root=$ground/trixie/root rules=ours ;;
    esac
    path=$root/usr/sbin:$root/usr/bin:$PATH
}

engine_answers() {
    python3 -I -S -c '
import socket, sys
engine = socket.socket(socket.AF_UNIX)
engine.settimeout(10)
engine.connect(sys.argv[1])
engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
sys.exit(b" 200 " not in engine.recv(64))' "$ground/$1/docker.sock"
} 2> /dev/null

start_engine() {
    local name home bridge mac net root rules path options=()
    engine "$1"
    if alive "$name-docker" && alive "$name-containerd" && engine_answers "$name"; then return; fi
    stop_engine "$name"
    say "starting the engine '$name'"
    mkdir -p "$home"
    # Files of our own, so that the machine's /etc/docker and /etc/containerd stay out.
    # A registry that tests make fail is not asked for a minute.
    echo '{"max-download-attempts": 2}' > "$home/daemon.json"
    printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' > "$home/containerd.toml"
    # A bridge without an address of its own takes the lowest of its ports': it would change as containers come and go,
    # and those that knew the old one would be without network for up to a minute.
    ip link add "$bridge" address "$mac" type bridge
    ip address add "$net.254.1/24" dev "$bridge"
    ip link set "$bridge" up
    if [ "$rules" = ours ]; then
        options=(--iptables=false --ip6tables=false)
        sysctl -qw net.ipv4.ip_forward=1
        iptables -w -I FORWARD -s "$net.0.0/16" -j ACCEPT
        iptables -w -I FORWARD -d "$net.0.0/16" -j ACCEPT
        iptables -w -t nat -A POSTROUTING -s "$net.0.0/16" ! -d "$net.0.0/16" -j MASQUERADE
    fi
    launch "$name-containerd" env PATH="$path" containerd --config "$home/containerd.toml" \
        --root "$home/containerd" --state "$home/containerd-state" --address "$home/containerd.sock"
    wait_for "$name-containerd" 30 test -S "$home/containerd.sock"
    launch "$name-docker" env PATH="$path" dockerd --config-file "$home/daemon.json" \
        --host "unix://$home/docker.sock" --data-root "$home/data" --exec-root "$home/exec" \
        --pidfile "$home/docker.pid" --containerd "$home/containerd.sock" \
        --bridge "$bridge" --default-address-pool "base=$net.0.0/17,size=24" --shutdown-timeout 5 \
        --userland-proxy-path "$(PATH=$path command -v docker-proxy)" \
        --init-path "$(PATH=$path command -v docker-init)" \
        --registry-mirror "http://$registry" --insecure-registry "$registry" "${options[@]}"
    wait_for "$name-docker" 60 engine_answers "$name"
}

# stop_engine NAME: the containers, the daemons, then what they may leave: shims, mounts, bridges, packet rules.
stop_engine() {
    local name home bridge mac net root rules path link mount
    engine "$1"
    kill_containers
    stop "$name-docker" 20
    stop "$name-containerd" 10
    kill_containers with-shims
    # Innermost first; a space in a path reads \040 (proc(5)).
    while read -r mount; do
        umount -l -- "$(printf %b "$mount")" || true
    done < <(awk -v home="$home/" 'index($5, home) == 1 { print $5 }' /proc/self/mountinfo | tac)
    for link in "$bridge" $(ip -o -4 address | awk -v net="$net." 'index($4, net) == 1 { print $2 }'); do
        remove_rules "$link"
        ip link delete "$link" 2> /dev/null || true
    done
    remove_rules "$net.0.0/16"
    rm -rf "$home/exec" "$home/containerd-state" "$home/docker.pid" "$home/docker.sock" "$home"/containerd.sock*
}

# kill_containers [with-shims]: those of the engine in $home. A container's first process takes the others with it
# (pid_namespaces(7)).
kill_containers() {
    local file shim
    while read -r file; do
        shim=${file%/cmdline}
        # shellcheck disable=SC2046 # each word is a process
        kill -KILL $(cat "$shim"/task/*/children) ${1:+"${shim##*/}"} || true
    done < <(grep -lzxF -- "$home/containerd.sock" /proc/[0-9]*/cmdline)
} 2> /dev/null

# remove_rules WORD: the packet rules that name this interface or net.
remove_rules() {
    local table rule
    for table in filter nat; do
        while read -r rule; do
            # shellcheck disable=SC2086 # the rule is the arguments
            iptables -w -t "$table" $rule || true
        done < <(iptables -w -t "$table" -S | grep -wF -- "$1" | sed -n 's/^-A/-D/p')
    done
} 2> /dev/null
