# What certfleet runs on a host to look at it. It changes nothing: no file is written, nothing is loaded.
#
# This text arrives on standard input, the data behind it, as that of transaction.sh. The actions:
#
#   check      is everything there that a transaction needs, and does the config test pass?
#   config     the configuration of nginx, as it would load it
#   read       the certificates in these places; of private keys only the hash of their public half
#   installed  what lies where we have installed these certificates: checksums, modes, owners
#
# All is in functions and the last line calls the first: a text cut short on its way does nothing.

main() {
    set -u
    umask 077
    LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
    export LC_ALL PATH
    newline='
'
    # What `timeout` runs: as in transaction.sh.
    together='[ "$PPID" != "$0" ] && kill -s 0 -- "-$PPID" 2>/dev/null || exec "$@"
        trap late=yes TERM; "$@"; status=$?; [ -z "${late-}" ] || kill -s KILL -- "-$PPID"; exit "$status"'
    read -r nonce action count || exit 1
    printf '%s begin\n' "$nonce"
    read -r _ _ _ _ layout made && IFS= read -r directory && IFS= read -r test && IFS= read -r _ ||
        fail input 'the settings did not arrive'
    case $action in
        check) check ;;
        config) config ;;
        read) places ;;
        installed) installed ;;
        *) fail input 'this action is not known' ;;
    esac
    finish
}

# A word, a name, two details, and a text by its length.
record() {
    printf '%s %s %s %s %s\n%s\n' "$1" "$2" "$3" "$4" "${#5}" "$5"
}

fail() {
    record failed - "$1" - "$2"
    finish
}

finish() {
    printf '%s end\n' "$nonce"
    exit 0
}

# Takes a text into $value.
take() {
    read -r length && number "$length" || return 1
    value=$(dd bs="$length" count=1 iflag=fullblock 2>/dev/null)
    [ "${#value}" -eq "$length" ]
}

number() {
    case $1 in '' | 0?* | *[!0-9]* | ????????*) return 1 ;; esac
    [ "$1" -le 1048576 ]
}

# Runs a command, at most 25 s; what it said on the way through $1, and that it did not end in time, goes to
# $output.
run() {
    said=$({ shift; timeout -k 5 20 sh -c "$together" "$$" "$@" </dev/null; printf '\n%s' "$?"; } 2>&1 | $1)
    status=${said##*"$newline"}
    output=${said%"$newline"*}
    case $status in
        124 | 137 | 143) output="it did not end within 20 s${output:+: $output}" ;;
        '' | *[!0-9]*) status=1 ;;
    esac
    return "$status"
}

# The end of what a command says, because that is where programs say what stopped them.
ending() {
    public_lines | tail -c 4096 | tr -c '\011\012\040-\176' '?'
}

check() {
    for tool in awk chmod chown cp date dd flock id ln ls mkdir mv readlink rm sha256sum sleep sort sync tail timeout tr; do
        command -v "$tool" >/dev/null || record missing - "$tool" - ''
    done
    above=$directory
    while [ ! -e "$above" ] && [ "$above" != / ] && [ "$above" != . ]; do
        above=$(dirname "$above")
    done
    if [ -d "$above" ] && [ -w "$above" ]; then
        record directory - writable - ''
    else
        record directory - closed - "$above"
    fi
    if run ending sh -c "$test"; then
        record test - passed - ''
    else
        record test - failed - "$output"
    fi
}

config() {
    command -v nginx >/dev/null || { record none - - - ''; return; }
    # Its complaints are many and elsewhere; if it cannot load its configuration they are the answer.
    run public sh -c 'exec nginx -T -q 2>/dev/null'
    # Cut off, so that how it ended is not known.
    [ "${#said}" -lt 4194000 ] || fail tools 'its configuration is larger than 4 MB'
    case $status in
        0) record config - - - "$output" ;;
        124 | 137 | 143) record broken - - - '`nginx -T` did not end within 20 s' ;;
        *) run ending nginx -t; record broken - - - "$output" ;;
    esac
}

# What somebody has put into a configuration by mistake does not leave this host; nor does what has no end. The last
# line is how nginx ended.
public() {
    public_lines | head -c 4194304
}

public_lines() {
    awk '
        /-----BEGIN .*PRIVATE KEY-----/ { hidden = 1 }
        !hidden
        /-----END .*PRIVATE KEY-----/ { hidden = 0 }
        END { if (hidden) print }
    '
}

# Each place is a kind and a path: `file`, `folder` (what is in it), `folders` (what is in each folder in it).
places() {
    # What an answer may have, and what can be read in good time.
    room=6000000 left=4000
    while [ "$count" -gt 0 ]; do
        read -r kind || fail input 'the places did not arrive'
        take || fail input 'the places did not arrive'
        count=$((count - 1))
        case $kind in
            file) one "$value" ;;
            folder) within "$value" 1 ;;
            folders) within "$value" 2 ;;
            *) fail input 'this kind of place is not known' ;;
        esac
    done
}

# What in this folder, at this depth, has a certificate or a key in it. There may be a million files.
within() {
    found=$(find -L "$1" -mindepth "$2" -maxdepth "$2" -type f -size -513 \
        \( -name '*.pem' -o -name '*.crt' -o -name '*.cer' -o -name '*.key' \) \
        -exec grep -l -e '-----BEGIN CERTIFICATE-----' -e '-----BEGIN .*PRIVATE KEY-----' {} + 2>/dev/null |
        sort | head -n 4001)
    while IFS= read -r file; do
        [ -z "$file" ] || one "$file"
    done <<END
$found
END
}

# Only what is public leaves this host: certificates, and the hash of a key's public half.
one() {
    left=$((left - 1)) room=$((room - ${#1} - 200))
    [ "$left" -ge 0 ] && [ "$room" -gt 0 ] || { record more - - - ''; finish; }
    if [ ! -f "$1" ]; then
        [ ! -e "$1" ] && record absent - - - "$1" || record odd - - - "$1"
        return
    fi
    [ -r "$1" ] || { record closed - - - "$1"; return; }
    # Of certificates those that are whole: what follows half a one may be a key.
    text=$(head -c 262145 "$1" | awk '
        { size += length($0) + 1 }
        /-----BEGIN .*PRIVATE KEY-----/ { key = 1 }
        /-----BEGIN / { block = "" }
        /^-----BEGIN CERTIFICATE-----/ { inside = 1 }
        /-----BEGIN / && !/^-----BEGIN CERTIFICATE-----/ { inside = 0 }
        inside { block = block $0 "\n" }
        /^-----END CERTIFICATE-----/ { if (inside) text = text block; inside = 0 }
        END { printf "%s\n%s", (size > 262144 ? "odd" : key ? "key" : ""), text "." }
    ' 2>/dev/null)
    kind=${text%%"$newline"*}
    text=${text#*"$newline"} && text=${text%.}
    [ "$kind" != odd ] || { record odd - - - "$1"; return; }
    if [ -n "$text" ]; then
        room=$((room - ${#text}))
        [ "$room" -gt 0 ] || { record more - - - ''; finish; }
        record path - - - "$1"
        record certificate - - - "$text"
    fi
    if [ "$kind" = key ]; then
        record path - - - "$1"
        record key - "$(public_half "$1")" - ''
    fi
}

# Of each certificate its files, and the folders of ours that lead to them; with layout `include` also what its
# file to include names.
installed() {
    set -f
    files='privkey.pem fullchain.pem cert.pem chain.pem' all='' folders='' names=''
    for made in $made; do
        files="$files ${made%%=*}"
    done
    while [ "$count" -gt 0 ]; do
        read -r one || fail input 'the names did not arrive'
        case $one in '' | .* | -* | *[!A-Za-z0-9._-]*) fail input 'a name is not allowed' ;; esac
        names="$names $one" folders="$folders .certfleet/$one .certfleet/$one/current/." count=$((count - 1))
        for file in $files; do
            all="$all $one/$file"
        done
    done
    record me - "$(id -u)" - ''
    # Without it nothing is there.
    unset CDPATH
    cd "$directory" 2>/dev/null || return 0
    [ "$layout" != include ] || for one in $names; do
        included || continue
        record conf - "$version" - "$one"
        all="$all .certfleet/$one/$version/privkey.pem .certfleet/$one/$version/fullchain.pem"
    done
    record sums - - - "$(timeout -k 5 20 sha256sum $all 2>/dev/null </dev/null)"
    record numbers - - - "$(ls -ldLn $all $folders 2>/dev/null)"
    record names - - - "$(ls -ldL $all $folders 2>/dev/null)"
}

# Finds the $version that the file to include of $one names: `-` if it is not one for key and chain alike.
included() {
    chain='' key='' version=-
    [ -f "$one.conf" ] || return 1
    { read -r _ && read -r _ chain && read -r _ key; } <"$one.conf" 2>/dev/null
    chain=${chain#*"/.certfleet/$one/"} key=${key#*"/.certfleet/$one/"}
    [ "${chain#*/}" = 'fullchain.pem";' ] && [ "$key" = "${chain%%/*}/privkey.pem\";" ] || return 0
    case ${chain%%/*} in '' | .* | -* | *[!A-Za-z0-9._-]*) ;; *) version=${chain%%/*} ;; esac
}

public_half() {
    command -v openssl >/dev/null || { echo unknown; return; }
    # A key with a passphrase is not asked for it.
    found=$(openssl pkey -in "$1" -passin pass: -pubout -outform DER 2>/dev/null </dev/null | sha256sum)
    case $found in
        # Of nothing: it could not be read.
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855*) echo unknown ;;
        *) echo "${found%% *}" ;;
    esac
}

main
