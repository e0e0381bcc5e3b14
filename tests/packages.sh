# shellcheck shell=bash
# Sourced by what installs Debian packages for the tests: tests/run, tests/k8s/run, tests/k8s/lab/build.

# apt_install PACKAGE…: as root, or with a sudo that does not ask; says what to do where that cannot be. Services stay as they are: a package
# that starts one on installation would take port 1883, and a policy of "no" keeps it from starting.
apt_install() {
    command -v apt-get >/dev/null || { printf 'install these, and run it again: %s\n' "$*" >&2; return 1; }
    local become=() policy=/usr/sbin/policy-rc.d made_policy='' code=0
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || { printf 'as root: apt-get install -y %s\n' "$*" >&2; return 1; }
        become=(sudo -n)
    fi
    if ! [ -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${become[@]}" tee "$policy" >/dev/null
        "${become[@]}" chmod +x "$policy"
        made_policy=1
    fi
    { "${become[@]}" apt-get update -q && "${become[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@"; } >&2 || code=1
    [ -z "$made_policy" ] || "${become[@]}" rm -f "$policy"
    [ $code = 0 ] || printf 'apt-get could not install: %s\n' "$*" >&2
    return $code
}
