# shellcheck shell=bash
# Sourced by the lab's own scripts and by whoever uses the lab: where things are, and commands that act inside a running lab.
#
# Promises to set no shell options and to start nothing.

LAB="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# One build for each set of dependencies, outside of any checkout.
LAB_CACHE="${SLUICE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice-tests}/k8s-lab-$(cat "$LAB"/*/go.sum | sha256sum | cut -c 1-16)"
LAB_BIN="$LAB_CACHE/bin"
LAB_IMAGES="$LAB_CACHE/images"
LAB_STATE="${SLUICE_LAB_STATE:-$LAB_CACHE/state}"

# The lab's pid 1 as the host sees it; fails if the lab is not up.
lab_pid() {
    local pid
    pid="$(cat "$LAB_STATE/lab.pid" 2>/dev/null)" && [ -d "/proc/$pid" ] && echo "$pid"
}

# in_lab COMMAND…: in the cluster's namespaces, whose network no other process reaches.
in_lab() {
    # shellcheck disable=SC2016 # for the inner shell
    nsenter -t "$(lab_pid)" -n -m -p -- sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
}

# kubectl as the cluster's administrator.
kc() { in_lab env KUBECONFIG="$LAB_STATE/pki/admin.conf" "$LAB_BIN/kubectl" "$@"; }

# kc_within SECONDS …: the same, ended after that.
kc_within() {
    local seconds="$1"
    shift
    in_lab timeout "$seconds" env KUBECONFIG="$LAB_STATE/pki/admin.conf" "$LAB_BIN/kubectl" "$@"
}

# on_node N COMMAND…: in the namespaces of node N.
on_node() {
    local node="$1"
    shift
    in_lab nsenter -t "$(cat "$LAB_STATE/node-$node/pid")" -m -n -p -u -i -C -- "$@"
}

# load_image FILE.tar N…: as a pull from a registry would do on those nodes.
load_image() {
    local file="$1" node
    shift
    for node in "$@"; do
        on_node "$node" ctr -n k8s.io images import "$file" >/dev/null || return
    done
}

# Nobody on the node gets to say a last word.
power_off() { in_lab kill -9 "$(cat "$LAB_STATE/node-$1/pid")"; }

power_on() {
    in_lab env LAB="$LAB" LAB_BIN="$LAB_BIN" LAB_IMAGES="$LAB_IMAGES" LAB_STATE="$LAB_STATE" LAB_NODES="$(cat "$LAB_STATE/nodes")" \
        bash "$LAB/inside/power-on" "$1"
}
