# What certfleet runs on a host to take over what certbot has there. It changes nothing: no file is written, nothing of
# certbot's is run.
#
# This text arrives on standard input, the data behind it, as that of transaction.sh. The actions:
#
#   lineages               of each lineage its name, its CA, its chain; and the private keys of those that are named
#   lineages-and-accounts  besides, the accounts with their private keys
#
# All is in functions and the last line calls the first: a text cut short on its way does nothing.

main() {
    set -u
    umask 077
    LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
    export LC_ALL PATH
    unset CDPATH
    newline='
'
    read -r nonce action count || exit 1
    printf '%s begin\n' "$nonce"
    read -r _ && IFS= read -r _ && IFS= read -r _ && IFS= read -r _ && IFS= read -r root ||
        fail input 'the settings did not arrive'
    wanted=$newline
    while [ "$count" -gt 0 ]; do
        read -r one || fail input 'the names did not arrive'
        wanted=$wanted$one$newline count=$((count - 1))
    done
    # What is no part of the shell would have the keys in its arguments, for all to see.
    case $(command -v printf) in */*) fail tools 'its shell has no printf of its own' ;; esac
    for tool in awk find head ls readlink sort timeout tr; do
        command -v "$tool" >/dev/null || fail tools "$tool is missing"
    done
    # What an answer may have, and what can be read in good time.
    room=6000000 left=1000
    open
    for file in renewal/*.conf; do
        [ ! -e "$file" ] && [ ! -L "$file" ] || lineage "${file#renewal/}"
    done
    for folder in live/*/; do
        folder=${folder%/}
        # Those with a file of their own were sent above.
        [ ! -d "$folder" ] || [ -e "renewal/${folder#live/}.conf" ] || [ -L "renewal/${folder#live/}.conf" ] ||
            lineage "${folder#live/}.conf"
    done
    [ "$action" != lineages-and-accounts ] || accounts
    finish
}

# A word, a name, two details, and a text by its length.
record() {
    room=$((room - ${#5} - ${#3} - 40))
    [ "$room" -gt 0 ] || more part
    printf '%s %s %s %s %s\n%s\n' "$1" "$2" "$3" "$4" "${#5}" "$5"
}

# Says that there is more than is sent, and whether it was in the middle of one.
more() {
    printf 'more - %s - 0\n\n' "${1--}"
    finish
}

fail() {
    printf 'failed - %s - %s\n%s\n' "$1" "${#2}" "$2"
    finish
}

finish() {
    printf '%s end\n' "$nonce"
    exit 0
}

# Goes to the folder, if it is there, is one of certbot's, and may be read.
open() {
    cd "$root" 2>/dev/null || {
        state "$root"
        record tree - "$state" - "$root"
        finish
    }
    none=yes
    for folder in live renewal; do
        state "$folder"
        case $state in
            odd) [ ! -d "$folder" ] || none='' ;;
            closed)
                record tree - closed - "$root/$folder"
                finish
                ;;
        esac
    done
    [ -z "$none" ] || { record tree - odd - "$root"; finish; }
    return 0
}

# Finds the $state of what is no file to be read: `absent`, `broken` (a link to nothing), `closed`, `odd`.
state() {
    state=odd
    if [ -d "$1" ]; then
        [ -r "$1" ] && [ -x "$1" ] || state=closed
    elif [ -e "$1" ]; then
        [ -r "$1" ] || state=closed
    else
        # Whether something is there is nobody's to know who may not look into the folder.
        case $(ls -dL "$1" 2>&1 >/dev/null) in
            *denied*) state=closed ;;
            *) if [ -L "$1" ]; then state=broken; else state=absent; fi ;;
        esac
    fi
}

# Sends a lineage, by the name of its file.
lineage() {
    left=$((left - 1))
    [ "$left" -ge 0 ] || more
    name=${1%.conf}
    record lineage - - - "$name"
    # A name that no certificate can have.
    case $name in '' | .* | -* | *[!A-Za-z0-9._-]*) return 0 ;; esac
    if [ -f "renewal/$1" ] && small "renewal/$1"; then
        # Beside it are the names of files with passwords, and commands.
        record conf - - - "$(timeout -k 5 20 awk '/^[ \t]*server[ \t]*=/ { print; exit }' "renewal/$1" 2>/dev/null)"
    fi
    text chain "live/$name/fullchain.pem" '-----BEGIN CERTIFICATE-----'
    case $wanted in *"$newline$name$newline"*) text key "live/$name/privkey.pem" 'PRIVATE KEY-----' ;; esac
}

# Sends a file of text as it is, and the name of the file that it is a link to. What lacks a mark is sent as nothing: it
# is not what it should be, and may be somebody's secret.
text() {
    to=''
    [ ! -L "$2" ] || to=$(readlink "$2" 2>/dev/null)
    record link - "$1" - "${to##*/}"
    if [ ! -f "$2" ] || [ ! -r "$2" ]; then
        state "$2"
        record "$state" - "$1" - ''
    elif ! small "$2"; then
        record large - "$1" - ''
    else
        # The dot keeps the line ends.
        text=$(timeout -k 5 20 head -c 131072 "$2" 2>/dev/null | tr -d '\000'; echo .)
        text=${text%.}
        case $text in *"$3"*) ;; *) text='' ;; esac
        record text - "$1" - "$text"
    fi
}

# Whether a file has at most 128 KiB.
small() {
    [ -z "$(find -L "$1" -prune -size +256 2>/dev/null)" ]
}

# The accounts: accounts/HOST/PATH/HASH. Links to folders are other names for the same account.
accounts() {
    state accounts
    [ "$state" != closed ] || { record closed - accounts - ''; return 0; }
    found=$(timeout -k 5 20 find accounts -mindepth 2 -maxdepth 7 -name private_key.json 2>/dev/null | sort | head -n 101)
    while IFS= read -r file; do
        [ -n "$file" ] || continue
        left=$((left - 1))
        [ "$left" -ge 0 ] || more
        folder=${file%/*}
        record account - - - "${folder#accounts/}"
        text regr "$folder/regr.json" '"uri"'
        text jwk "$file" '"kty"'
    done <<END
$found
END
}

main
