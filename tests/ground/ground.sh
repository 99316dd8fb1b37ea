# Shared by up, down and registry: where things are, and how a process is started, asked and stopped.
# shellcheck shell=bash

set -euo pipefail
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
repository=$(dirname -- "$(dirname -- "$here")")
ground=$(readlink -m -- "${IMAGEBUILD_GROUND:-/var/tmp/imagebuild-ground}")
registry=127.0.0.1:5000

say() { printf 'ground: %s\n' "$*" >&2; }

fail() {
    say "$1"
    if [ -n "${2:-}" ] && [ -s "$2" ]; then
        say "the end of $2:"
        tail -n 30 -- "$2" >&2
    fi
    exit 1
}

# alive NAME: whether the process that `launch NAME` started still runs. The start time guards against a reused id.
alive() {
    local pid started
    [ -s "$ground/run/$1" ] && read -r pid started < "$ground/run/$1" && [ "$(started_at "$pid")" = "$started" ]
}

started_at() {
    local stat
    { stat=$(< "/proc/$1/stat"); } 2> /dev/null || { echo gone; return; }
    # The name, field 2, may hold spaces; 20 fields after it is the start time (proc(5)).
    set -- ${stat##*) }
    echo "${20}"
}

# launch NAME COMMAND...: start a daemon in a session of its own, with its output in log/NAME.
launch() {
    local name=$1 pid
    shift
    mkdir -p "$ground/run" "$ground/log"
    setsid "$@" > "$ground/log/$name" 2>&1 < /dev/null 9>&- &
    pid=$!
    disown
    echo "$pid $(started_at "$pid")" > "$ground/run/$name"
}

# wait_for NAME SECONDS COMMAND...: until COMMAND succeeds; fail with the log when NAME dies or the time is over.
wait_for() {
    local name=$1 until=$((SECONDS + $2))
    shift 2
    until "$@" > /dev/null 2>&1; do
        alive "$name" || fail "$name ended before it answered." "$ground/log/$name"
        [ "$SECONDS" -lt "$until" ] || fail "$name does not answer." "$ground/log/$name"
        sleep 0.1
    done
}

# stop NAME SECONDS: ask the daemon to end, then end its process group.
stop() {
    local name=$1 until=$((SECONDS + $2)) pid
    if alive "$name"; then
        read -r pid _ < "$ground/run/$name"
        kill -TERM "$pid" 2> /dev/null || true
        while alive "$name" && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
        if alive "$name"; then
            say "$name does not stop; killing it"
            kill -KILL -- "-$pid" 2> /dev/null || true
            while alive "$name" && [ "$SECONDS" -lt "$((until + 5))" ]; do sleep 0.1; done
        fi
    fi
    rm -f "$ground/run/$name"
}

registry_answers() {
    local line
    exec 3<> "/dev/tcp/${registry%:*}/${registry#*:}" || return 1
    printf 'GET /v2/ HTTP/1.0\r\n\r\n' >&3
    read -r -t 5 line <&3
    exec 3>&-
    [[ $line == *" 200 "* ]]
}

start_registry() {
    if alive registry && (registry_answers) 2> /dev/null; then return; fi
    stop registry 5
    if (registry_answers) 2> /dev/null; then fail "another process serves $registry; stop it first."; fi
    mkdir -p "$ground/registry"
    cat > "$ground/registry.yml" << END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $ground/registry}, delete: {enabled: true}}
http: {addr: "$registry"}
END
    launch registry docker-registry serve "$ground/registry.yml"
    wait_for registry 30 eval '(registry_answers)'
}

# stop_engine NAME BRIDGE: the daemons, then what they may have left: shims, containers, mounts, packet rules.
stop_engine() {
    local name=$1 bridge=$2 home="$ground/$1" pid table rule mount
    stop "$name-docker" 20
    for pid in $(shims_of "$home"); do
        kill -KILL $(children_of "$pid") "$pid" 2> /dev/null || true
    done
    stop "$name-containerd" 10
    # Innermost first; `\040` is a space (proc(5)).
    awk -v home="$home/" 'index($5, home) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do
        umount -l -- "$(printf %b "$mount")" || true
    done
    rm -f "$home/docker.pid" "$home/docker.sock" "$home"/containerd.sock*
    rm -rf "$home/exec" "$home/containerd-state"
    ip link show "$bridge" > /dev/null 2>&1 || return 0
    for table in filter nat; do
        iptables -w -t $table -S | grep -w -- "$bridge" | sed 's/^-A/-D/' | while read -r rule; do
            iptables -w -t $table $rule || true
        done
    done
    ip link delete "$bridge"
}

shims_of() {
    local file
    for file in /proc/[0-9]*/cmdline; do
        tr '\0' ' ' < "$file" 2> /dev/null | grep -q "^[^ ]*containerd-shim.* -address $1/containerd.sock " || continue
        file=${file%/cmdline}
        echo "${file##*/}"
    done
}

children_of() { cat /proc/"$1"/task/*/children 2> /dev/null || true; }
