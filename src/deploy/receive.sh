
# ==== The other way in: this file is installed as certfleet-receive, and the only command of a restricted key.
#
# Who has that key may be a thief. What comes is a request on standard input, and it counts for nothing but data:
# what may be done is in a file of root's, /etc/certfleet-receive.conf unless the command in authorized_keys names
# another. What ssh was asked to run is not even looked at. A certificate is taken only if
#
#   - its name is in that file, and every name in it is allowed for that certificate,
#   - its key belongs to it, its chain leads to a root that counts here, and it is valid now,
#   - it is newer than the one in use, and lacks no name which that one has; or is the very same.
#
# Newer is what begins later. When it ends says nothing: lives get shorter. Two that begin within a day of each other
# are both new, because some CAs round to the day and others date back by an hour; but what was in use before the one
# that is does not come again. So what is left for a thief who also has old keys of ours is one of the same day that
# never came here, or was pruned; it is as good as the one in use. A certificate in use that has ended, or leads to no
# root, gives way to any good one, also one from before: that mends more than it breaks.
#
# Back goes only what was switched within the last minutes, and only to what was there before that.

receive() {
    prepare
    conf=${1:-/etc/certfleet-receive.conf}
    # Nobody but the controller is to hear anything, but for one sentence to a person who tries the key.
    exec 3>&2 2>/dev/null
    trouble='' most=0
    configure || trouble=$error
    # All of it, before anything is done or locked: who is slow, or sends for ever, keeps nobody waiting.
    request=$(timeout -k 1 25 dd bs=4096 count=$((most * 8 + 8)) iflag=fullblock | tr -d '\000')
    printf '%s\n' "$request" | answer
}

answer() {
    request=''
    read -r word edition action count nonce
    if [ "$word" != certfleet-receive ] || ! is_nonce; then
        echo 'this key only brings certificates: certs.toml needs `receiver = true` in the table of this host' >&3
        exit 1
    fi
    exec 3>&-
    [ "$edition" = 1 ] || fail receiver 'the script there is for requests of version 1, and this is another'
    [ -z "$trouble" ] || fail receiver "$trouble"
    number "$count" && [ "$count" -le "$most" ] || fail receiver "$conf allows $most certificates, these are more"
    tools="$tools openssl"
    case $action in
        install | put-back) transact ;;
        check) check ;;
        *) fail receiver 'it takes certificates, and does nothing else' ;;
    esac
}

is_nonce() {
    case $nonce in *[!0-9a-f]*) return 1 ;; esac
    [ ${#nonce} = 32 ]
}

# ---- What root allows here: lines of a key and a value.

configure() {
    directory='' test='' reload='' made='' roots=system allowed=''
    key_owner=- key_group=- key_mode=0600 passage=0700 layout=directory
    look "$conf" || return 1
    error="$conf must be a file that only its owner can change: chmod 0644 $conf"
    case $mode in -????-??-*) ;; *) return 1 ;; esac
    owned "$conf" || return 1
    while read -r key value || [ -n "$key" ]; do
        case $key in
            '' | '#'*) ;;
            directory) directory=$value ;;
            owner) key_owner=$value ;;
            group) key_group=$value ;;
            mode) key_mode=$value ;;
            passage) passage=$value ;;
            layout) layout=$value ;;
            files) made=$value ;;
            test) test=$value ;;
            reload) reload=$value ;;
            roots) roots=$value ;;
            allow) allowed="$allowed$value$newline" most=$((most + 1)) ;;
            *)
                error="$conf: \`$key\` is not known"
                return 1
                ;;
        esac
    done <"$conf"
    error="$conf needs \`directory\`, \`test\` and \`reload\`"
    [ -n "$directory" ] && [ -n "$test" ] && [ -n "$reload" ] || return 1
    name_files
}

# Finds the names that the certificate $one may have.
allowed() {
    while read -r name allowed_names; do
        [ "$name" != "$one" ] || return 0
    done <<END
$allowed
END
    error="$conf does not allow it"
    return 1
}

# ---- Judging what is staged. What is refused leaves no trace.

judge_request() {
    step 'judging'
    incoming=$staged staged='' plan=''
    look_over
    while read -r one version _ sizes; do
        if acceptable "$work/in/$one"; then
            # Who restored an old store counts anew. It is the end that was judged, not the number.
            plan="$plan$one $version force $sizes$newline" staged="$staged $one"
        else
            refuse "$error"
            rm -rf "$work/in/$one"
        fi
    done <"$work/plan"
    [ -n "$staged" ] || finish
    error=$({ printf '%s' "$plan" >"$work/plan"; } 2>&1) || fail staging "$error"
}

acceptable() {
    allowed || return 1
    # The very same is not new under another number.
    case $in_use in
        *" $one "*)
            if [ "$directory/$one/cert.pem" -ef "$base/$one/current/cert.pem" ]; then
                [ "$base/$one/current" -ef "$base/$one/$version" ] || version=$(readlink "$base/$one/current")
                plain "$version" && return
            fi
            ;;
    esac
    error='its version is not a number and the start of a fingerprint'
    hash=${version#*-}
    case $hash in *[!0-9a-f]*) return 1 ;; esac
    number "${version%%-*}" && [ ${#hash} = 8 ] || return 1
    error='what was sent is not a key, its certificate and a chain'
    case $formed in *" $one "*) ;; *) return 1 ;; esac
    step "judging $one"
    own_key "$1" && names_allowed "$1" && valid "$1" && better "$1"
}

# Finds out for all at once what needs no openssl: which are the very ones $in_use, and which are $formed as one
# key, one leaf and certificates, with nothing between them that others could take for something else.
look_over() {
    parts='' live=''
    for one in $incoming; do
        parts="$parts $one/privkey.pem $one/cert.pem $one/chain.pem"
        live="$live $one/privkey.pem $one/cert.pem $one/chain.pem $one/fullchain.pem"
    done
    in_use=$(cd "$directory" && sha256sum $live | awk '
        FNR == NR { sum[$2] = $1; next }
        { split($2, part, "/") }
        part[2] ~ /^(privkey|fullchain|cert|chain)\.pem$/ { here[part[1]]; if (sum[$2] != $1) other[part[1]] }
        END { for (one in here) if (!(one in other)) printf " %s ", one }
    ' - "$work/sums")
    formed=$(cd "$work/in" && awk '
        FNR == 1 {
            if (inside) bad[one]
            split(FILENAME, part, "/")
            one = part[1]
            inside = 0
            wanted = part[2] == "privkey.pem" ? "^((EC|RSA) )?PRIVATE KEY$" : "^CERTIFICATE$"
        }
        inside && $0 == "-----END " kind "-----" { inside = 0; next }
        inside && /^[A-Za-z0-9+\/=]+$/ && length($0) <= 76 { next }
        !inside && /^-----BEGIN [A-Z ]+-----$/ {
            kind = substr($0, 12, length($0) - 16)
            inside = ++count[FILENAME]
            if (kind ~ wanted) next
        }
        { bad[one] }
        END {
            if (inside) bad[one]
            for (file in count) {
                split(file, part, "/")
                one = part[1]
                if (part[2] != "privkey.pem" || one in bad) continue
                if (count[file] == 1 && count[one "/cert.pem"] == 1 && count[one "/chain.pem"] <= 8) printf " %s ", one
            }
        }
    ' $parts)
}

# Also finds its $serial and when it $begins.
own_key() {
    error='the key is not the one of the certificate'
    facts=$(openssl x509 -in "$1/cert.pem" -noout -serial -startdate -pubkey) || return 1
    serial=${facts%%"$newline"*} facts=${facts#*"$newline"}
    begins=${facts%%"$newline"*}
    [ "${facts#*"$newline"}" = "$(openssl pkey -in "$1/privkey.pem" -passin pass: -pubout)" ]
}

# Finds the $names in the certificate $1. What is no DNS name keeps its kind, which no list allows.
names_in() {
    found=$(openssl x509 -in "$1" -noout -ext subjectAltName)
    found=${found#*"$newline"} names=''
    for name in $found; do
        name=${name#DNS:}
        names="$names ${name%,}"
    done
}

names_allowed() {
    names_in "$1/cert.pem"
    error='no names are in it' has=$names
    [ -n "$names" ] || return 1
    for name in $names; do
        error="$conf does not allow the name $name in it"
        covered "$name" "$allowed_names" || return 1
    done
}

# Whether the name $1 is among those in $2; a wildcard stands for one label.
covered() {
    case " $2 " in *" $1 "*) return 0 ;; esac
    case $1 in \** | *:* | *.) return 1 ;; *.*) ;; *) return 1 ;; esac
    case " $2 " in *" *.${1#*.} "*) return 0 ;; esac
    return 1
}

# Whether it is valid now, and its chain leads to a root that counts here.
valid() {
    leaf=$1/cert.pem chain=$1/chain.pem
    case $roots in
        system) set -- ;;
        # Whoever that is: it is only seen that the chain is its own.
        any) set -- -partial_chain -trusted "$chain" ;;
        *) set -- -trusted "$roots" ;;
    esac
    [ "$roots" = any ] || [ ! -s "$chain" ] || set -- "$@" -untrusted "$chain"
    error=$(openssl verify -purpose sslserver "$@" "$leaf" 2>&1) && return
    error="it is not valid here (roots: $roots): $error"
    return 1
}

# What counts as the one in use is one that would be taken itself: a certificate that has ended, or that
# nobody trusts, may be replaced by any good one.
better() {
    case $in_use in *" $one "*) return 0 ;; esac
    live=$directory/$one
    [ -f "$live/cert.pem" ] && [ -f "$live/chain.pem" ] && valid "$live" || return 0
    there=$(openssl x509 -in "$live/cert.pem" -noout -serial -startdate)
    case $(begins_than "${there#*"$newline"}") in
        later) ;;
        # What we did not put there has no history here, and may be taken over as it is.
        near) [ ! "$live/cert.pem" -ef "$base/$one/current/cert.pem" ] || ! known "${there%%"$newline"*}" || return 1 ;;
        *)
            error="it begins before the one in use, which is newer: ${there#*"$newline"}"
            return 1
            ;;
    esac
    names_in "$live/cert.pem"
    for name in $names; do
        covered "$name" "$allowed_names" && ! covered "$name" "$has" || continue
        error="it lacks the name $name, which the one in use has and $conf allows"
        return 1
    done
}

# Tells how it $begins beside another, both as `notBefore=Feb  1 12:00:00 2027 GMT`: later or earlier by more than a
# day, or near it.
begins_than() {
    printf '%s\n%s\n' "$1" "$begins" | awk -F '[ =:]+' '
        {
            # Years begin in March, so that a leap day is the last one.
            month = (index("MarAprMayJunJulAugSepOctNovDecJanFeb", $2) + 2) / 3
            year = $7 - (month > 10)
            days = 365 * year + int(year / 4) - int(year / 100) + int(year / 400) + int((153 * month - 151) / 5) + $3
            at[NR] = ((days * 24 + $4) * 60 + $5) * 60 + $6
        }
        END {
            after = at[2] - at[1]
            print (NR != 2 ? "unknown" : after > 86400 ? "later" : after < -86400 ? "earlier" : "near")
        }
    '
}

# Whether it is the certificate in use, with the serial number $1, or one that stayed here when that took its place.
# By their numbers, because the same certificate can be written in many ways. One that was put back, because it was
# not served, has a higher version.
known() {
    error="it is the one in use, written in another way: if that is damaged, remove $live/cert.pem"
    [ "$1" != "$serial" ] || return 0
    error='it was in use here before the one that is'
    last=$(readlink "$base/$one/current")
    set +f
    set -- "$base/$one"/[0-9]*-*
    set -f
    for kept in "$@"; do
        before=${kept##*/}
        number "${before%%-*}" && [ "${before%%-*}" -lt "${last%%-*}" ] || continue
        [ "$(openssl x509 -in "$kept/cert.pem" -noout -serial)" != "$serial" ] || return 0
    done
    return 1
}

# ---- Going back: only what was switched here, by this script, in the last ten minutes.

# Lines of name, version, version before, and when.
remember() {
    [ $# -gt 0 ] || return 0
    kept=''
    now=$(date +%s)
    while read -r one version old at; do
        recent && case " $*" in *" $one:"*) ;; *) kept="$kept$one $version $old $at$newline" ;; esac
    done <"$base/.last-switch"
    for entry in "$@"; do
        split "$entry"
        kept="$kept$one $version $old $now$newline"
    done
    { printf '%s' "$kept" >"$work/last-switch" && mv -fT "$work/last-switch" "$base/.last-switch"; } 2>/dev/null
}

recent() {
    number "$((now - at))" && [ $((now - at)) -le 600 ]
}

may_go_back() {
    now=$(date +%s)
    error='it was not put in place here within the last ten minutes'
    allowed || return 1
    asked="$one $version $to" at=''
    while read -r one version to at; do
        if [ "$one $version $to" = "$asked" ] && recent; then
            at=found
            break
        fi
    done <"$base/.last-switch"
    set -- $asked
    one=$1 version=$2 to=$3
    [ "$at" = found ]
}

# ---- Only looking.

check() {
    for tool in $tools; do
        command -v "$tool" >/dev/null || record missing - "$tool" - ''
    done
    output=$({ timeout -k 5 20 sh -c "$test" </dev/null; printf '\n%s' "$?"; } 2>&1 | tail -c 4096)
    if [ "${output##*"$newline"}" = 0 ]; then
        record test - passed - ''
    else
        record test - failed - "$(printf '%s' "${output%"$newline"*}" | tr -c '\011\012\040-\176' '?')"
    fi
    finish
}

receive "$@"
