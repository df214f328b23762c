
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
    verified=$(verify_all)
    while read -r one version _ sizes; do
        if acceptable "$work/in/$one"; then
            # Who restored an old store counts anew. Its dates were judged, not its number.
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
    own_key "$1" && names_allowed && valid "$1" && better
}

# Finds out for all at once what needs no openssl: which are the very ones $in_use, which have the same $chains, and
# which are $formed as one key, one leaf and certificates, with nothing between them that others could take for
# something else.
look_over() {
    parts='' live=''
    for one in $incoming; do
        parts="$parts $one/privkey.pem $one/cert.pem $one/chain.pem"
        live="$live $one/privkey.pem $one/cert.pem $one/chain.pem $one/fullchain.pem"
    done
    in_use=$(cd "$directory" && sha256sum $live | awk -v work=.certfleet/.work/in/ '
        function with_chain(sum, folder) {
            if (!(sum in chain)) chain[sum] = folder "/chain.pem"
            leaves[sum] = leaves[sum] " " folder "/cert.pem"
        }
        there { sum[$2] = $1; next }
        {
            split($2, part, "/")
            if (part[2] !~ /^(privkey|fullchain|cert|chain)\.pem$/) next
            if (part[2] == "chain.pem") incoming[part[1]] = $1
            if (!($2 in sum) || sum[$2] != $1) other[part[1]]
        }
        END {
            for (one in incoming) if (!(one in other)) printf " %s ", one
            print ""
            for (one in other) {
                with_chain(incoming[one], work one)
                if ((one "/cert.pem" in sum) && (one "/chain.pem" in sum)) with_chain(sum[one "/chain.pem"], one)
            }
            for (each in chain) print chain[each] leaves[each]
        }
    ' there=1 - there='' "$work/sums")
    chains=${in_use#*"$newline"} in_use=${in_use%%"$newline"*}
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

# Says these facts of a certificate. It would load all roots of this machine first, and needs none.
facts() {
    SSL_CERT_FILE=/dev/null openssl x509 -in "$1" -noout -serial -startdate "$2" -ext subjectAltName
}

# Also finds its $serial, when it $begins, and what is said of the names that it $has.
own_key() {
    error='the key is not the one of the certificate'
    has=$(facts "$1/cert.pem" -pubkey) || return 1
    serial=${has%%"$newline"*} has=${has#*"$newline"}
    begins=${has%%"$newline"*} has=${has#*"$newline"}
    end='-----END PUBLIC KEY-----'
    [ "${has%%"$end"*}$end" = "$(openssl pkey -in "$1/privkey.pem" -passin pass: -pubout)" ] || return 1
    has=${has#*"$end"}
}

# Finds the $names in what was said of them, after a title. What is no DNS name keeps its kind, which no list allows.
names_in() {
    names=''
    case $1 in *'Alternative Name:'*"$newline"*) ;; *) return ;; esac
    for name in ${1#*'Alternative Name:'*"$newline"}; do
        name=${name#DNS:}
        names="$names ${name%,}"
    done
}

names_allowed() {
    names_in "$has"
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

# Says `PATH: OK` for each of these that is valid now, and with the chain $1 leads to a root that counts here.
verify() {
    chain=$1
    shift
    [ "$roots" = any ] || [ ! -s "$chain" ] || set -- -untrusted "$chain" "$@"
    case $roots in
        system) ;;
        # Whoever that is: it is only seen that the chain is its own.
        any) set -- -partial_chain -trusted "$chain" "$@" ;;
        *) set -- -trusted "$roots" "$@" ;;
    esac
    openssl verify -purpose sslserver "$@" </dev/null
}

# All that have the same chain at once: to begin and to load the roots takes longer than the work.
verify_all() {
    cd "$directory" || return
    while read -r chain leaves; do
        [ -z "$leaves" ] || verify "$chain" $leaves
    done <<END
$chains
END
}

valid() {
    case $newline$verified$newline in *"$newline${1#"$directory/"}/cert.pem: OK$newline"*) return 0 ;; esac
    error=$(verify "$1/chain.pem" "$1/cert.pem" 2>&1) && return
    error="it is not valid here (roots: $roots): $error"
    return 1
}

# What counts as the one in use is one that would be taken itself: a certificate that has ended, or that
# nobody trusts, may be replaced by any good one.
better() {
    case $in_use in *" $one "*) return 0 ;; esac
    live=$directory/$one
    [ -f "$live/cert.pem" ] && [ -f "$live/chain.pem" ] && valid "$live" || return 0
    there=$(facts "$live/cert.pem" -noout)
    known=${there%%"$newline"*} there=${there#*"$newline"}
    began=${there%%"$newline"*} there=${there#*"$newline"}
    newer || return 1
    names_in "$there"
    for name in $names; do
        covered "$name" "$allowed_names" && ! covered "$name" "$has" || continue
        error="it lacks the name $name, which the one in use has and $conf allows"
        return 1
    done
}

# Whether it $begins after the other $began, or within a day of it and is not $known.
newer() {
    error="it begins before the one in use, which is newer: $began"
    moment "$began" && day_before=$day second_before=$second && moment "$begins" || return 1
    days=$((day - day_before)) seconds=$((second - second_before))
    [ $((days > 1 || days == 1 && seconds > 0)) = 0 ] || return 0
    [ $((days < -1 || days == -1 && seconds < 0)) = 0 ] || return 1
    # What we did not put there has no history here, and may be taken over as it is.
    [ ! "$live/cert.pem" -ef "$base/$one/current/cert.pem" ] || ! was_here
}

# Finds the $day, counted from long ago, and the $second of it: of `notBefore=Feb  1 12:00:00 2027 GMT`.
moment() {
    set -- ${1#*=}
    [ $# = 5 ] || return 1
    # A year begins in March, so that a leap day is its last one.
    before=MarAprMayJunJulAugSepOctNovDecJanFeb
    before=${before%%"$1"*}
    month=$((${#before} / 3 + 1))
    year=$(($4 - (month > 10)))
    day=$((365 * year + year / 4 - year / 100 + year / 400 + (153 * month - 151) / 5 + $2))
    hour=${3%%:*} second=${3##*:}
    minute=${3#*:} minute=${minute%%:*}
    # 08 would be octal.
    second=$(((1$hour * 60 + 1$minute) * 60 + 1$second))
}

# Whether it is the certificate in use, or one that stayed here when that took its place. By their serial numbers,
# because the same certificate can be written in many ways. One that was put back, because it was not served, has a
# higher version.
was_here() {
    error="it is the one in use, written in another way: if that is damaged, remove $live/cert.pem"
    [ "$known" != "$serial" ] || return 0
    error='it was in use here before the one that is'
    last=$(readlink "$base/$one/current")
    set +f
    set -- "$base/$one"/[0-9]*-*
    set -f
    for kept in "$@"; do
        before=${kept##*/}
        number "${before%%-*}" && [ "${before%%-*}" -lt "${last%%-*}" ] || continue
        known=$(facts "$kept/cert.pem" -noout)
        [ "${known%%"$newline"*}" != "$serial" ] || return 0
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

# ---- Only looking, and saying what would be done with which certificate: whoever has the key could try that out.

check() {
    set -- $(sha256sum "$0")
    record program - "${1:-unknown}" - ''
    says=''
    while read -r line; do
        [ -z "$line" ] || says="${says}allow $line$newline"
    done <<END
$allowed
END
    record conf - here - "$conf
directory $directory
owner $key_owner
group $key_group
mode $key_mode
passage $passage
layout $layout
${made:+files $made$newline}test $test
reload $reload
roots $roots
$says"
    for tool in $tools; do
        command -v "$tool" >/dev/null || record missing - "$tool" - ''
    done
    above=$directory
    while [ ! -e "$above" ] && [ -n "$above" ]; do
        above=${above%/*}
    done
    [ -d "${above:-/}" ] && [ -w "${above:-/}" ] || record directory - closed - "${above:-/}"
    output=$({ timeout -k 5 20 sh -c "$test" </dev/null; printf '\n%s' "$?"; } 2>&1 | tail -c 4096)
    if [ "${output##*"$newline"}" = 0 ]; then
        record test - passed - ''
    else
        record test - failed - "$(printf '%s' "${output%"$newline"*}" | tr -c '\011\012\040-\176' '?')"
    fi
    finish
}

receive "$@"
