# shellcheck shell=bash
# Sourced by tests/k8s/run: what the installation must do, one function a behaviour, in the order in which they are played.
#
# Each leaves the cluster as it found it: three nodes, nine shards, all running.

SHARDS=9
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "$HERE/../.." && pwd)"
# A node's lease and 3 s: then the shards of a node that died must flow again.
FLOWS_AGAIN=5

# --- Before anything runs

# Container and program, and what the program needs to print what is in effect.
image_starts() {
    local began
    began="$(now_ms)"
    claim 0 "the image starts" on_node 2 ctr -n k8s.io run --rm localhost/sluice:0.1.0 start sluice config check --name start
    measured "in $(($(now_ms) - began)) ms; $(($(stat -c %s "$LAB_IMAGES/sluice.tar") / 1000000)) MB uncompressed"
}

manifests_are_right() {
    local overlay
    # Dry runs of what lies in a namespace need the namespace.
    kc apply -f "$ROOT/k8s/base/namespace.yaml" >/dev/null
    for overlay in base overlays/dev overlays/tls overlays/monitoring; do
        claim 0 "k8s/$overlay: strict dry run by the server" kc apply -k "$ROOT/k8s/$overlay" --dry-run=server --validate=strict
    done
    claim 0 "README, an overlay of one's own: strict dry run" by_readme overlay
    for overlay in base overlays/dev overlays/tls overlays/monitoring; do
        claim 0 "k8s/$overlay: a misspelt field is refused in each of its objects" refuses_misspelt 10 "$ROOT/k8s/$overlay" '. + {mispelt: 1}'
        claim 0 "and one deep in its pods" refuses_misspelt 1 "$ROOT/k8s/$overlay" \
            'select(.kind == "StatefulSet") | .spec.template.spec.containers[0].readinessProbe.mispelt = 1'
    done
}

# refuses_misspelt LEAST FOLDER CHANGE: of the folder's objects, changed by jq, of which there are so many at least, each is refused.
refuses_misspelt() {
    local objects object answer count=0
    objects="$(kc create -k "$2" --dry-run=client -o json | jq -c 'if .kind == "List" then .items[] else . end | '"$3")"
    while read -r object; do
        answer="$(kc apply --dry-run=server --validate=strict -f - <<<"$object" 2>&1)" && { echo "taken: $object"; return 1; }
        grep -q 'unknown field ".*mispelt"' <<<"$answer" || { echo "$answer"; return 1; }
        count=$((count + 1))
    done <<<"$objects"
    [ $count -ge "$1" ]
}

installs() {
    # The overlay `dev`, with images that are here.
    claim 0 "README, install" by_readme install k8s/overlays/dev tests/k8s/cluster
    claim 30 "three nodes, one cluster" all_ready 3
    claim 30 "nine shards run" flows $SHARDS
    claim 30 "they are spread evenly" is_even 3 $SHARDS
    claim 60 "three voters" voters_are sluice-0 sluice-1 sluice-2
    claim 0 "each pod on a machine of its own" each_on_its_own
}

each_on_its_own() {
    is "$(k get pods -l app.kubernetes.io/name=sluice -o jsonpath='{.items[*].spec.nodeName}' | tr ' ' '\n' | sort -u | wc -l)" 3
}

alerts_are_right() {
    local rules="$ROOT/k8s/components/monitoring"
    claim 0 "promtool: the alert rules fire when they should, and only then" promtool test rules "$rules/alerts_test.yaml"
    claim 0 "every metric in them is exported by a running node" exports_all "$rules/alerts.yaml"
}

exports_all() {
    local name shown pod
    # What concerns the cluster comes from its leader, what concerns a shard from the node that runs it.
    shown="$(for pod in sluice-0 sluice-1 sluice-2; do all_metrics $pod; done)"
    while read -r name; do
        grep -qE "^${name}(\\{| )" <<<"$shown" || { echo "no $name"; return 1; }
    done < <(grep -E '^ +(expr:|increase|or |and )' "$1" | grep -oE 'sluice_[a-z_]+' | sort -u)
}

# --- What a pod may do

may_read_its_statefulset_only() {
    claim 0 "the service account may read its StatefulSet" may yes get statefulset/sluice
    local refused
    for refused in "list statefulsets" "watch statefulset/sluice" "get statefulset/other" "patch statefulset/sluice" \
        "update statefulsets/sluice --subresource=scale" "get secrets" "get pods" "list configmaps" "create pods" "get nodes"; do
        # shellcheck disable=SC2086 # words
        claim 0 "and may not $refused" may no $refused
    done
    claim 0 "the apiserver answers its token so" apiserver_answers
}

may() {
    local answer="$1"
    shift
    is "$(k auth can-i "$@" --as=system:serviceaccount:sluice:sluice 2>/dev/null)" "$answer"
}

apiserver_answers() {
    local token path code
    token="$(k create token sluice)"
    for path in 200/apis/apps/v1/namespaces/sluice/statefulsets/sluice 403/apis/apps/v1/namespaces/sluice/statefulsets \
        403/api/v1/namespaces/sluice/secrets 403/api/v1/namespaces/sluice/pods 403/apis/apps/v1/namespaces/default/statefulsets/sluice; do
        code="$(in_lab curl -s -o /dev/null -w '%{http_code}' --cacert "$LAB_STATE/pki/ca.crt" -H "Authorization: Bearer $token" \
            "https://10.99.0.1:6443/${path#*/}")"
        is "$code" "${path%%/*}" || return
    done
}

is_restricted() {
    claim 0 "the namespace enforces restricted pod security" \
        is "$(kc get namespace sluice -o jsonpath='{.metadata.labels.pod-security\.kubernetes\.io/enforce}')" restricted
    claim 0 "and refuses a pod that is not" refuses_privileged
}

refuses_privileged() {
    ! k run bad --image=localhost/busybox:1 --dry-run=server 2>&1 | grep -vq 'violates PodSecurity "restricted'
}

# --- Idle, then under load

idles() {
    local pod from=() cpu
    # What is new at the start has passed.
    sleep 10
    for pod in sluice-0 sluice-1 sluice-2; do from+=("$(metric $pod process_cpu_seconds_total)"); done
    sleep 20
    for pod in sluice-0 sluice-1 sluice-2; do
        cpu="$(bc <<<"scale=1; ($(metric $pod process_cpu_seconds_total) - ${from[${pod#sluice-}]}) * 1000 / 20")"
        measured "$pod, idle with three shards: $cpu thousandths of a core, $(($(metric $pod process_resident_memory_bytes | cut -d. -f1) / 1000000)) MB"
    done
}

load_starts() {
    kc apply -f "$HERE/load.yaml" >/dev/null
    claim 60 "numbered readings arrive" delivers
}

is_inspected() {
    claim 0 "README, look: nodes, pipelines, shards, checkpoints by kubectl exec" by_readme look
    claim 0 "the same by gRPC through a port-forward of the Service" asked_by_port_forward

    claim 0 "and by a client that knows nothing of Sluice but what reflection tells it" asked_by_reflection
}

by_port_forward() {
    kc_within 10 -n sluice port-forward service/sluice-admin 17070:7070 >/dev/null 2>&1 &
    sleep 2
    in_lab "$@"
}

asked_by_port_forward() {
    by_port_forward "$SLUICE" shards list --admin http://127.0.0.1:17070 -o json | jq -e "length == $SHARDS"
}

asked_by_reflection() {
    by_port_forward "$LAB_BIN/grpcurl" -plaintext 127.0.0.1:17070 sluice.admin.v1.AssignmentService/ListAssignments | jq -e ".assignments | length == $SHARDS"
}

# --- What clusters do to pods

leaders_pod_is_deleted_by_force() {
    local line pod old
    pod="$(leader)" line="$(progress_lines)"
    old="$(uid "$pod")"
    measured "the leader is $pod"
    k delete pod "$pod" --force --grace-period=0 >/dev/null 2>&1
    without="$pod" claim $FLOWS_AGAIN "delete --force of the leader's pod: its shards flow elsewhere" flows $SHARDS
    claim 60 "it is back" is_back "$pod" "$old"
    claim 30 "and has its share" is_even 3 $SHARDS
    measured "$(gap_since "$line")"
}

restarts() {
    local line
    line="$(progress_lines)"
    k rollout restart statefulset/sluice >/dev/null
    claim 180 "rollout restart" k rollout status statefulset/sluice --timeout=180s
    claim 30 "all are there" all_ready 3
    claim 30 "evenly" is_even 3 $SHARDS
    measured "$(gap_since "$line")"
}

# The one beside it, on a machine that carries neither brokers nor load.
victim() {
    local pod
    for pod in sluice-2 sluice-1 sluice-0; do
        [ "$(node_of $pod)" = 1 ] || { echo $pod; return; }
    done
}

# run_at COUNT POD…: so many shards run on the nodes of these pods, by their own word. Sooner known than what the log has of it.
run_at() {
    local count="$1"
    shift
    is "$(for address in "$@"; do in_lab curl -s -m 1 "http://$address:7071/metrics"; done | grep -c '^sluice_shard_state{.*state="running".* 1$')" "$count"
}

addresses_but() {
    k get pods -l app.kubernetes.io/name=sluice -o json | jq -r --arg without "$1" '.items[] | select(.metadata.name != $without) | .status.podIP'
}

node_loses_its_power() {
    local line pod node others
    pod="$(victim)" line="$(progress_lines)"
    node="$(node_of "$pod")"
    mapfile -t others < <(addresses_but "$pod")
    power_off "$node"
    claim $FLOWS_AGAIN "power-off of node-$node: the shards of $pod run elsewhere" run_at $SHARDS "${others[@]}"
    without="$pod" claim 5 "and the log says so" flows $SHARDS
    measured "Kubernetes says of it: $(k get pod "$pod" -o jsonpath='{.status.phase}, ready {.status.conditions[?(@.type=="Ready")].status}')"
    power_on "$node"
    claim 120 "its power is back: the pod too" all_ready 3
    claim 30 "with its share" is_even 3 $SHARDS
    measured "$(gap_since "$line")"
}

raft_id_of() { status | jq -r --arg name "$1" '[.voters[], .learners[]] | map(select(.name == $name)) | first.raft_id // empty'; }

is_another_disk() {
    local id
    id="$(raft_id_of "$1")"
    if [ -z "$id" ] || [ "$id" = "$2" ]; then echo "raft id $id"; return 1; fi
}

volume_is_lost() {
    local pod id line cluster
    pod="$(victim)" line="$(progress_lines)" cluster="$(cluster_id)"
    id="$(raft_id_of "$pod")"
    k delete pvc "data-$pod" --wait=false >/dev/null
    k delete pod "$pod" >/dev/null
    claim 90 "the volume of $pod deleted: it is back with an empty one" all_ready 3
    claim 60 "as a new member" is_another_disk "$pod" "$id"
    claim 60 "that votes" voters_are sluice-0 sluice-1 sluice-2
    claim 30 "and has its share" is_even 3 $SHARDS
    claim 0 "of the same cluster" is "$(cluster_id)" "$cluster"
    measured "$(gap_since "$line")"
}

uid() { k get pod "$1" -o jsonpath='{.metadata.uid}'; }

# is_back POD UID: another pod of that name, and all is as before.
is_back() {
    local now
    now="$(uid "$1")"
    if [ -z "$now" ] || [ "$now" = "$2" ]; then echo "pod $now"; return 1; fi
    all_ready 3
}

evict() {
    printf '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s","namespace":"sluice"}}' "$1" |
        k create --raw "/api/v1/namespaces/sluice/pods/$1/eviction" -f - 2>&1
}

one_may_go() { is "$(k get pdb sluice -o jsonpath='{.status.disruptionsAllowed}')" 1; }

second_eviction_is_refused() {
    local first second old
    old="$(uid sluice-1)"
    claim 30 "the disruption budget lets one pod go" one_may_go
    first="$(evict sluice-1)" second="$(evict sluice-2)"
    claim 0 "an eviction is granted" grep -q Success <<<"$first"
    claim 0 "the second is refused" grep -q 'disruption budget' <<<"$second"
    claim 60 "the evicted pod is back" is_back sluice-1 "$old"
    claim 30 "with its share" is_even 3 $SHARDS
}

node_is_drained() {
    local pod node line old
    claim 30 "the disruption budget lets one pod go" one_may_go
    pod="$(victim)" line="$(progress_lines)"
    node="node-$(node_of "$pod")" old="$(uid "$pod")"
    claim 0 "README, drain: $node" by_readme drain node-3 "$node"
    claim 60 "$pod runs again" is_back "$pod" "$old"
    claim 30 "with its share" is_even 3 $SHARDS
    measured "$(gap_since "$line")"
}

is_upgraded() {
    local line node
    line="$(progress_lines)"
    for node in 1 2 3; do on_node $node ctr -n k8s.io images tag localhost/sluice:0.1.0 localhost/sluice:0.1.1 >/dev/null; done
    claim 0 "README, upgrade" by_readme upgrade
    claim 30 "all are there" all_ready 3
    claim 30 "evenly" is_even 3 $SHARDS
    measured "$(gap_since "$line")"
}

# --- What operators do

revision() { ask pipelines list -o json | jq -re '.[] | select(.name == "readings") | .revision'; }

next_revision() { is "$(revision)" "$1"; }

starts() { k get pods -l app.kubernetes.io/name=sluice -o jsonpath='{range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount} {end}'; }

pipeline_changes() {
    local before pods
    before="$(revision)" pods="$(starts)"
    echo 'metadata_headers: [qos]' >>"$COPY/k8s/components/dev/readings.yaml"
    claim 0 "the pipeline's file changed: kubectl apply" kc apply -k "$COPY/tests/k8s/cluster"
    claim 150 "the mounted file is the next revision" next_revision $((before + 1))
    claim 30 "all shards run" flows $SHARDS
    sed -i 's/^metadata_headers: .*/metadata_headers: [topic, qos]/' "$COPY/k8s/components/dev/readings.yaml"
    claim 0 "README, a changed pipeline" by_readme pipeline
    claim 0 "is the next revision at once" next_revision $((before + 2))
    claim 0 "the ConfigMap too" kc apply -k "$COPY/tests/k8s/cluster"
    claim 150 "the pods' files follow" pod_sees '- topic'
    sleep 5
    claim 0 "which changes nothing" next_revision $((before + 2))
    claim 0 "no pod has restarted" is "$(starts)" "$pods"
}

pod_sees() { ask config check | grep -qx -- "$1"; }

# A secret's file is there once a pipeline that names it passes the check.
secret_is_seen() {
    kc_within 10 -n sluice exec -i sluice-0 -- sluice config check -f /dev/stdin <"$COPY/k8s/overlays/mine/factory.yaml"
}

secret_is_mounted() {
    claim 0 "README, secrets" by_readme secret
    claim 150 "the pods see it" secret_is_seen
}

scale_up_to() {
    k scale statefulset/sluice --replicas="$1" >/dev/null
    claim 90 "scaled to $1: all ready" all_ready "$1"
    claim 30 "evenly" is_even "$1" $SHARDS
}

pods_are() { is "$(k get pods -l app.kubernetes.io/name=sluice -o jsonpath='{.items[*].metadata.name}')" "$*"; }
members_are() { is "$(status | jq -r '[.members[].name] | sort | join(" ")')" "$*"; }

# What is on the disks and must be there after all of it.
facts() {
    printf '%s revision %s ' "$(cluster_id)" "$(revision)"
    ask checkpoints list -o json | jq -r 'length'
}

scales_up_and_down() {
    local line before
    line="$(progress_lines)" before="$(facts)"
    claim 0 "README, scale up to 5" by_readme scale-up
    claim 30 "all are there" all_ready 5
    claim 30 "evenly" is_even 5 $SHARDS
    claim 60 "five voters" voters_are sluice-0 sluice-1 sluice-2 sluice-3 sluice-4
    claim 0 "README, scale down to 3" by_readme scale-down
    claim 0 "those above have left the cluster" members_are sluice-0 sluice-1 sluice-2
    claim 0 "three voters" voters_are sluice-0 sluice-1 sluice-2
    claim 30 "all shards run, evenly" is_even 3 $SHARDS
    claim 0 "the same cluster, pipelines and checkpoints" is "$(facts)" "$before"
    measured "$(gap_since "$line")"
}

scales_down_to_one_in_one_step() {
    local line before
    line="$(progress_lines)" before="$(facts)"
    scale_up_to 5
    claim 60 "five voters" voters_are sluice-0 sluice-1 sluice-2 sluice-3 sluice-4
    k scale statefulset/sluice --replicas=1 >/dev/null
    claim 60 "5 to 1 in one step: the pods are gone" pods_are sluice-0
    claim 5 "sluice-0 is the only member" members_are sluice-0
    claim 0 "and votes alone" voters_are sluice-0
    claim 5 "all shards run on it" flows $SHARDS
    claim 0 "a change gets through" ask pipelines pause readings
    claim 0 "and back" ask pipelines resume readings
    scale_up_to 3
    claim 60 "three voters" voters_are sluice-0 sluice-1 sluice-2
    claim 0 "the same cluster, pipelines and checkpoints" is "$(facts)" "$before"
    measured "$(gap_since "$line")"
}

is_no_member() { ! members_are_listed | grep -qx "$1"; }
members_are_listed() { status | jq -re '.members[].name'; }

# signal SIGNAL POD: to the node's process, as nothing but its machine can.
signal() {
    # shellcheck disable=SC2016 # for the shell there
    on_node "$(node_of "$2")" sh -c 'for p in /proc/[0-9]*; do
        tr "\0" "\n" <$p/environ 2>/dev/null | grep -qx "SLUICE_NAME=$1" && kill -"$0" "${p#/proc/}"; done; true' "$1" "$2"
}

# It hangs, so it hears nothing of its end, and leaves by itself as little as one without power.
dead_node_beyond_the_replicas_is_removed() {
    local line
    line="$(progress_lines)"
    scale_up_to 4
    signal STOP sluice-3
    k scale statefulset/sluice --replicas=3 >/dev/null
    without=sluice-3 claim 30 "hung while it is scaled away: sluice-3 is no member any more" is_no_member sluice-3
    without=sluice-3 claim 5 "all shards run elsewhere" flows $SHARDS
    k delete pod sluice-3 --force --grace-period=0 >/dev/null 2>&1
    claim 60 "three nodes, all ready" all_ready 3
    claim 30 "evenly" is_even 3 $SHARDS
    measured "$(gap_since "$line")"
}

# The one that is scaled away cannot leave by itself, and the rollout goes on with the next at once.
stuck_rollout_is_scaled_away() {
    local line
    line="$(progress_lines)"
    k set env statefulset/sluice SLUICE_LANES=none >/dev/null
    claim 60 "a rollout is stuck at sluice-2" is_crashing sluice-2
    k scale statefulset/sluice --replicas=2 >/dev/null
    without=sluice-1 claim 40 "scaled to 2, while it goes on with sluice-1: a quorum is left" voters_are sluice-0
    k set env statefulset/sluice SLUICE_LANES- >/dev/null
    k delete pod sluice-1 >/dev/null
    scale_up_to 3
    claim 60 "mended and scaled to 3: three voters" voters_are sluice-0 sluice-1 sluice-2
    measured "$(gap_since "$line")"
}

is_crashing() { [ "$(k get pod "$1" -o jsonpath='{.status.containerStatuses[0].restartCount}')" -ge 1 ]; }

# Nobody can ask whether a stop is for good; the leader that is left removes them once it can.
role_is_taken_away() {
    local line
    line="$(progress_lines)"
    scale_up_to 4
    k delete rolebinding sluice >/dev/null
    k scale statefulset/sluice --replicas=3 >/dev/null
    claim 60 "without its Role sluice-3 has stopped" pods_are sluice-0 sluice-1 sluice-2
    claim 30 "and all shards run elsewhere" flows $SHARDS
    claim 70 "a metric tells of it" leader_cannot_ask
    claim 0 "the Role is back" kc apply -k "$COPY/tests/k8s/cluster"
    claim 30 "sluice-3 is no member any more" members_are sluice-0 sluice-1 sluice-2
    measured "$(gap_since "$line")"
}

leader_cannot_ask() { is "$(metric "$(leader)" sluice_statefulset_unreadable)" 1; }

wrong_pipeline_file_stops_no_node() {
    local old
    old="$(uid sluice-2)"
    echo 'no_such_key: 1' >>"$COPY/k8s/components/dev/readings.yaml"
    claim 0 "a wrong pipeline in the ConfigMap" kc apply -k "$COPY/tests/k8s/cluster"
    claim 150 "the pods see it" pods_tell_of_it
    k delete pod sluice-2 >/dev/null
    claim 60 "a pod restarts all the same" is_back sluice-2 "$old"
    sed -i '/^no_such_key/d' "$COPY/k8s/components/dev/readings.yaml"
    claim 0 "mended" kc apply -k "$COPY/tests/k8s/cluster"
    claim 150 "nothing is wrong any more" nothing_is_wrong
}

pods_tell_of_it() { is "$(for pod in sluice-0 sluice-1 sluice-2; do metric $pod sluice_pipelines_dir_errors; done | paste -sd ' ')" "1 1 1"; }
nothing_is_wrong() { is "$(for pod in sluice-0 sluice-1 sluice-2; do metric $pod sluice_pipelines_dir_errors; done | paste -sd ' ')" "0 0 0"; }

all_stop_and_come_back() {
    local before
    before="$(facts)"
    k scale statefulset/sluice --replicas=0 >/dev/null
    claim 60 "scaled to none: all pods are gone" pods_are
    k scale statefulset/sluice --replicas=3 >/dev/null
    claim 60 "scaled to 3: all ready" all_ready 3
    claim 30 "evenly" is_even 3 $SHARDS
    claim 0 "they were never removed" voters_are sluice-0 sluice-1 sluice-2
    claim 0 "the same cluster, pipelines and checkpoints" is "$(facts)" "$before"
}

removed_by_hand_comes_back_anew() {
    local id
    id="$(raft_id_of sluice-2)"
    claim 0 "sluice-2 removed by hand" ask nodes remove sluice-2 --force --yes
    claim 60 "it is back, since the StatefulSet has it: all ready" all_ready 3
    claim 60 "as a new member" is_another_disk sluice-2 "$id"
    claim 60 "that votes" voters_are sluice-0 sluice-1 sluice-2
    claim 30 "and has its share" is_even 3 $SHARDS
}

members_have_no_quorum() { is "$(kc_within 10 -n sluice exec sluice-0 -- sluice status -o json | jq -r .has_quorum)" false; }

# --- When most is lost

quorum_is_recovered() {
    local line before
    line="$(progress_lines)" before="$(facts)"
    k delete pvc data-sluice-1 data-sluice-2 --wait=false >/dev/null
    k delete pod sluice-1 sluice-2 --force --grace-period=0 >/dev/null 2>&1
    claim 30 "two of three disks lost: no quorum" members_have_no_quorum
    claim 0 "README, a lost quorum: the disk of sluice-0 is looked at" by_readme recover-look
    claim 0 "and made the cluster's only voter" by_readme recover
    claim 60 "three voters" voters_are sluice-0 sluice-1 sluice-2
    claim 30 "all shards run" is_even 3 $SHARDS
    claim 0 "the same cluster, pipelines and checkpoints" is "$(facts)" "$before"
    measured "$(gap_since "$line")"
}

is_another_cluster() {
    local id
    id="$(cluster_id)"
    [ -n "$id" ] && [ "$id" != "$1" ]
}

all_disks_are_lost() {
    local line before
    line="$(progress_lines)" before="$(cluster_id)"
    claim 0 "README, all disks lost" by_readme anew
    claim 30 "three nodes ready" all_ready 3
    claim 0 "in a new cluster" is_another_cluster "$before"
    claim 30 "all shards run, by the ConfigMap's pipelines" is_even 3 $SHARDS
    measured "$(gap_since "$line")"
}

# --- With certificates

make_secrets() {
    local dir token
    dir="$(mktemp -d)"
    (
        cd "$dir" || exit
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -subj /CN=sluice-nodes -days 2 -out ca.crt
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout tls.key -subj /CN=sluice -out tls.csr
        openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out tls.crt -extfile <(printf '%s\n' \
            'subjectAltName=DNS:sluice-peers,DNS:*.sluice-peers,DNS:sluice-admin,DNS:localhost' 'extendedKeyUsage=serverAuth,clientAuth')
    ) 2>/dev/null
    kc -n sluice-tls create secret generic sluice-tls --from-file="$dir/ca.crt" --from-file="$dir/tls.crt" --from-file="$dir/tls.key"
    token="$(openssl rand -hex 16)"
    kc -n sluice-tls create secret generic sluice-admin-tokens --from-literal=read="$token" --from-literal=operate="$(openssl rand -hex 16)"
    rm -rf "$dir"
}

asked_with_tls() { kc_within 10 -n sluice-tls exec sluice-0 -- sluice status -o json "$@"; }
three_with_tls() { is "$(asked_with_tls | jq -r '"\(.members | length) \(.nodes_alive)"')" "3 3"; }
refused_without_token() { ! asked_with_tls --admin https://sluice-admin:7070 --admin-token 0123456789abcdef0123456789abcdef; }

speaks_tls() {
    kc create namespace sluice-tls >/dev/null
    make_secrets >/dev/null
    kc apply -k "$HERE/tls" >/dev/null 2>&1
    claim 90 "with certificates and tokens: three nodes, one cluster" three_with_tls
    claim 30 "operators reach it through the Service" asked_with_tls --admin https://sluice-admin:7070
    claim 0 "and are refused with a wrong token" refused_without_token
    kc delete namespace sluice-tls --wait=false >/dev/null
}

# --- At last

load_is_judged() {
    local verdict
    k exec load -- touch /tmp/stop
    claim 120 "the load has ended" load_has_ended
    verdict="$(k logs load | grep -o '{"run".*}' | tail -n 1)"
    measured "$(jq -r '"published \(.published), acknowledged \(.acknowledged), delivered \(.delivered), duplicated \(.duplicated), longest \(.max_ms / 1000 | floor) s, p99 \(.p99_ms) ms"' <<<"$verdict")"
    claim 0 "lost: 0" is "$(jq -r .lost <<<"$verdict")" 0
}

load_has_ended() { k get pod load -o jsonpath='{.status.phase}' | grep -qE 'Succeeded|Failed'; }
