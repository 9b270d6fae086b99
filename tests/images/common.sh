# Sourced by the programs of this folder: arguments, scratch, the system's packages, user-mode Linux.
# A program sets `usage` and `needed` (COMMAND:PACKAGE ...), and calls `begin "$@"`. Then it has $output
# (an absolute path), $work (an empty folder, removed on every way out), and $suite. It makes $work/result,
# and calls `finish`.

images=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
me=${0##*/}

die() {
    echo "$me: $*" >&2
    exit 1
}

say() {
    echo "$me: $*" >&2
}

# begin ARGUMENT...: parse the arguments, check the host, make the scratch folder
begin() {
    suite=bookworm
    output=
    while (($#)); do
        case $1 in
            -h | --help) echo "$usage"; exit 0 ;;
            --packages) packages_of; exit 0 ;;
            --suite) (($# > 1)) || bad_usage "$1 needs a value"; suite=$2; shift ;;
            -*) bad_usage "unknown option '$1'" ;;
            *) [[ -z $output ]] || bad_usage "more than one OUTPUT"; output=$1 ;;
        esac
        shift
    done
    [[ -n $output ]] || bad_usage "OUTPUT is missing"
    [[ -d $(dirname -- "$output") ]] || die "cannot write '$output': no such folder"
    output=$(realpath -- "$output")
    ((EUID == 0)) || die "must be run as root"
    local command
    for command in $needed; do
        [[ -e ${command%:*} ]] || command -v "${command%:*}" >/dev/null \
            || die "${command%:*} not found: install the package ${command#*:}"
    done
    child=
    work=$(mktemp -d)
    partial=$output.part.$$
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Builders make their own temporary folders; a package's script in a chroot finds no folder of the host's.
    unset TMPDIR
    chmod 755 "$work"
}

bad_usage() {
    echo "$me: $1; see $me --help" >&2
    exit 2
}

packages_of() {
    local command
    for command in $needed; do
        echo "${command#*:}"
    done | sort -u
}

# leave: end the child, call `cleanup` if the program has one, and remove what is left
leave() {
    if [[ -n $child ]]; then
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    [[ $(type -t cleanup) != function ]] || cleanup
    rm -rf --one-file-system -- "$work" "$partial"
}

# finish: put $work/result into the place of OUTPUT
finish() {
    cp --sparse=always -- "$work/result" "$partial"
    sync -- "$partial"
    mv -f -- "$partial" "$output"
    say "made '$output', $(($(stat -c %b "$output") >> 11)) MiB, in $SECONDS s"
}

# attend COMMAND...: run a command with its output in $work/log, in mount and pid namespaces of its own: with it
# end all processes and mounts that it has made, also when the program is interrupted
attend() {
    local status=0
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc "$@" >"$work/log" 2>&1 </dev/null &
    child=$!
    wait "$child" || status=$?
    child=
    return "$status"
}

# run COMMAND...: the same; if it fails, so does the program, after the end of the output
run() {
    attend "$@" || {
        tail -n 30 "$work/log" >&2
        die "the build failed; its last lines are above"
    }
}

# system TARBALL PACKAGE...: a Debian with these packages, from this machine's mirror
system() {
    local tarball=$1 from=()
    shift
    "$images/../../images/debian/sources" "$suite" >"$work/sources"
    [[ ! -s $work/sources ]] || from=("$work/sources")
    say "downloading and unpacking $suite"
    # mmdebstrap hides its TMPDIR from the scripts of packages.
    run env TMPDIR="$work" mmdebstrap --mode=root --variant=important --format=tar --include="$*" \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf' \
        --customize-hook=': >"$1"/etc/machine-id; echo debian >"$1"/etc/hostname' \
        "$suite" "$tarball" "${from[@]}"
}

# uml SCRIPT: run the shell script SCRIPT as root in user-mode Linux, in the folder /work, which is $work.
# It has device mapper, LVM, vfat and XFS whatever this kernel has, sees this machine's files, and can change
# those below /work alone. Its loop devices and mounts end with it.
uml() {
    cp -- "$1" "$work/script"
    rm -f "$work/status"
    mkdir -p "$work/uml"
    # The memory of the machine is a deleted file below TMPDIR.
    attend env TMPDIR="$work" linux.uml mem=1536M uml_dir="$work/uml" umid=build quiet rootfstype=hostfs rootflags=/ ro \
        init="$images/uml-init" WORK="$work" con=null con0=fd:0,fd:1 ssl=null || true
    [[ $(cat "$work/status" 2>/dev/null) == 0 ]] || {
        tail -n 40 "$work/log" >&2
        die "the build in user-mode Linux failed; its last lines are above"
    }
}
