# shellcheck shell=bash
# Sourced by tests/k8s/run: how a claim is checked and timed, how the cluster and its load are asked.
#
# A claim that fails is told with its last output and counted; the run goes on, since each claim says by itself what it means.

results=()
failed=0

now_ms() { echo $(($(date +%s%N) / 1000000)); }

tell() {
    local line
    line="$(printf '%-4s %6d.%01d s  %s' "$1" $(($2 / 1000)) $(($2 % 1000 / 100)) "$3")"
    results+=("$line")
    printf '%s\n' "$line" >&2
}

# claim LIMIT_SECONDS WORDS COMMAND…: the command succeeds within the limit, tried again and again; 0: at once or never.
claim() {
    local limit="$1" words="$2" began output took
    shift 2
    began="$(now_ms)"
    while ! output="$("$@" 2>&1)"; do
        took=$(($(now_ms) - began))
        if [ $took -ge $((limit * 1000)) ]; then
            failed=$((failed + 1))
            tell FAIL $took "$words (limit $limit s)"
            printf '%s\n' "$output" | tail -n 12 | sed 's/^/       /' >&2
            return 1
        fi
        sleep 0.2
    done
    tell ok $(($(now_ms) - began)) "$words"
}

# measured WORDS: a figure that is no claim.
measured() {
    results+=("$(printf '%-15s%s' '' "$1")")
    printf '%-15s%s\n' '' "$1" >&2
}

is() { [ "$1" = "$2" ] || { echo "is '$1', not '$2'"; return 1; }; }

k() { kc -n sluice "$@"; }

# ask NOUN VERB…: of a node whose pod is ready, other than $without.
without=
ask() {
    local pod
    pod="$(k get pods -l app.kubernetes.io/name=sluice -o json | jq -r --arg without "$without" '
        [.items[] | select(.metadata.name != $without and .metadata.deletionTimestamp == null)
            | select(any(.status.conditions[]?; .type == "Ready" and .status == "True")) | .metadata.name] | first // empty')"
    [ -n "$pod" ] || { echo "no pod is ready"; return 1; }
    # A node that has just lost its power may still be called ready: it must not hold us.
    kc_within 5 -n sluice exec "$pod" -c sluice -- sluice "$@"
}

status() { ask status -o json; }
leader() { status | jq -re .leader; }
cluster_id() { status | jq -re .cluster_id; }
node_of() { k get pod "$1" -o jsonpath='{.spec.nodeName}' | cut -d- -f2; }

# all_ready COUNT: so many pods, each of them ready, and the cluster has so many members, all of them heard.
all_ready() {
    is "$(k get statefulset sluice -o jsonpath='{.status.replicas} {.status.readyReplicas}')" "$1 $1" &&
        is "$(status | jq -r '"\(.members | length) \(.nodes_alive) \(.has_quorum)"')" "$1 $1 true"
}

voters_are() { is "$(status | jq -r '[.voters[].name] | sort | join(" ")')" "$*"; }

# flows COUNT: so many shards, each running on a node other than $without and going nowhere.
flows() {
    local shards
    shards="$(ask shards list -o json)" || return 1
    jq -e --argjson count "$1" --arg without "$without" 'length == $count and
        all(.[]; .state == "running" and .node != null and .node != $without and .handover_to == null)' <<<"$shards" >/dev/null && return
    jq -r '.[] | "\(.index) \(.node) \(.state) \(.handover_to) \(.message)"' <<<"$shards"
    return 1
}

# is_even NODES SHARDS: all run, and no node has two more than another.
is_even() {
    flows "$2" || return 1
    ask nodes list -o json | jq -e --argjson nodes "$1" '[.[] | select(.state == "active") | .shards] |
        length == $nodes and max - min <= 1' >/dev/null
}

# The load, by the lines that it writes each second.
delivers() { k logs load --tail=1 | grep -q 'delivered  *[1-9].*(+[1-9]'; }
progress_lines() { k logs load | grep -c ' missing '; }

# gap_since LINE: what the load saw from that line of its progress on.
gap_since() {
    k logs load | grep ' missing ' | tail -n "+$1" | sed -E 's/.*\(\+([0-9]+)\) +missing +([0-9]+).*/\1 \2/' | awk '
        $1 == 0 { run++; if (run > longest) longest = run; next } { run = 0 }
        { if ($2 > most) most = $2 } END { printf "%d s in which nothing arrived, at most %d readings waiting", longest, most }'
}

# A node's /metrics, asked from outside of it.
all_metrics() { in_lab curl -s -m 5 "http://$(k get pod "$1" -o jsonpath='{.status.podIP}'):7071/metrics"; }

# metric POD NAME: one number of it.
metric() { all_metrics "$1" | sed -n "s/^$2 //p"; }

# by_readme NAME [FROM TO]…: runs the commands after `<!-- run: NAME -->` in k8s/README.md, words replaced; stops at the first that fails.
by_readme() {
    local name="$1" commands
    shift
    commands="$(awk -v mark="<!-- run: $name -->" '$0 == mark { found = 1; next } found && /^```/ { if (inside) exit; inside = 1; next } inside' \
        "$ROOT/k8s/README.md")"
    [ -n "$commands" ] || { echo "k8s/README.md has no commands named $name"; return 1; }
    while [ $# -gt 0 ]; do
        commands="${commands//"$1"/"$2"}"
        shift 2
    done
    # A shell of its own: where a result is asked for, -e has no effect.
    # shellcheck disable=SC2016 # for that shell
    bash -e -o pipefail -c '. "$1"; cd "$2"; kubectl() { kc "$@"; }; eval "$3"' - "$LAB/lib.sh" "$COPY" "$commands"
}
