# What certfleet runs on a host to put certificates in place: all of it, in one transaction.
#
# There are two ways in. Usually this text arrives on standard input, the data behind it, and nothing is
# installed on the host. Or it is installed there, with receive.sh in the place of its last line, and judges for
# itself what a restricted key may bring. It needs a POSIX shell, and awk, flock, sha256sum, timeout, sync, dd and
# mv -T as coreutils, util-linux or busybox have them. D is the host's `directory`, N a certificate's name:
#
#   D/.certfleet/N/<version>-<fingerprint>/   its files; written once, never again
#   D/.certfleet/N/current                    link to one of those: renaming it switches all of them
#   D/N/privkey.pem ...                       fixed links through `current`; what nginx.conf names
#   D/N.conf                                  layout `include`: names the files of one version
#   D/.certfleet/.lock, .holder               one transaction at a time; who is in it, for people
#   D/.certfleet/.switch                      there while a switch is under way: what to go back to
#   D/.certfleet/.work/                       all that is temporary: rubbish for the next run
#   D/.certfleet/.last-switch                 what the installed script switched lately, and may put back
#   D/.certfleet/.last-answer                 the answer, in case nobody was there to hear it
#
# The one rule: pull the plug between any two commands, and the web server still starts. So what is in
# use changes by rename only, and only to files that are complete, on the disk, and a matching pair.
#
# There may be hundreds of certificates, and a command takes a millisecond. So what can be done for all by
# one command is. What is left for each is one rename to put it there and one to switch to it; where perl is,
# that does them all.
#
# All is in functions and the last line calls the first: a text cut short on its way does nothing. What is
# not quoted is meant to be split: lists of names, which have no blanks. There is no globbing.

main() {
    prepare
    read -r nonce action count || exit 1
    settings || fail input 'the settings did not arrive'
    transact
}

prepare() {
    set -fu
    # Keys are 0600 from their first instant, not after a chmod.
    umask 077
    # Messages in English, and a character is a byte: ${#...} counts what the controller counts.
    LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
    export LC_ALL PATH
    # What would make cd and ls print something else than is read here, and perl do something else than it is told.
    unset CDPATH QUOTING_STYLE TIME_STYLE PERL5OPT PERL5LIB PERLLIB PERL5DB
    newline='
'
    me=$(id -u)
    answer='' locked='' recovered='' written=''
    # What `timeout` runs: a command, and when its time is over the end of all that it started. `timeout` itself
    # tells them once, and what does not listen would stay. That of busybox makes no group for them.
    together='[ "$PPID" != "$0" ] && kill -s 0 -- "-$PPID" 2>/dev/null || exec "$@"
        trap late=yes TERM; "$@"; status=$?; [ -z "${late-}" ] || kill -s KILL -- "-$PPID"; exit "$status"'
    conf_mark='# Written by certfleet, anew with each version.'
    tools='awk chmod chown cp date dd flock id ln ls mkdir mv readlink rm sha256sum sleep sort sync tail timeout tr'
}

transact() {
    case $directory in /?*) ;; *) fail input 'the directory is not an absolute path' ;; esac
    need
    open_directory
    lock
    recover
    case $action in
        install) install ;;
        put-back) put_back ;;
        *) fail input 'this action is not known' ;;
    esac
    finish
}

# How this host wants it: whose the keys are, the layout, the files made of others (`x.pem=privkey,cert`),
# and three lines: the directory, the test, the reload.
settings() {
    read -r key_owner key_group key_mode passage layout made &&
        IFS= read -r directory && IFS= read -r test && IFS= read -r reload || return 1
    name_files
}

name_files() {
    files='privkey.pem fullchain.pem cert.pem chain.pem'
    for one in $made; do
        files="$files ${one%%=*}"
    done
}

# What the installed script asks of a request before it does anything; who streams this one may do anything
# anyway. The first is for certificates, when they are staged; the second for one to put back; the third is told
# what was switched.
judge_request() { :; }
may_go_back() { :; }
remember() { :; }

# ---- 1. Talking to the controller: lines that start with its nonce, so that no greeting of a login
# ----    shell can be taken for them.

# Shows that we are alive, and where. Also when nobody listens any more.
step() {
    printf '%s at %s\n' "$nonce" "$*" 2>/dev/null || :
}

# Adds to the answer: a word, a certificate, its version, the version before, and a text by its length.
record() {
    answer="$answer$1 $2 $3 $4 ${#5}$newline$5$newline"
}

# Ends everything: what, and why.
fail() {
    record failed - "$1" - "$2"
    finish
}

finish() {
    if [ -n "$locked" ]; then
        { printf '%s' "$answer" >"$base/.last-answer.new" &&
            mv -fT "$base/.last-answer.new" "$base/.last-answer"; } 2>/dev/null
        rm -rf "$work"
    fi
    printf '%s begin\n%s%s end\n' "$nonce" "$answer" "$nonce" 2>/dev/null || :
    exit 0
}

# ---- 2. Judging what came.

# From 0 to 1048576, written plainly.
number() {
    case $1 in '' | 0?* | *[!0-9]* | ????????*) return 1 ;; esac
    [ "$1" -le 1048576 ]
}

# The controller checks names too. What becomes a path is checked where it becomes one.
plain() {
    case $1 in '' | .* | -* | *[!A-Za-z0-9._-]*) return 1 ;; esac
}

# ---- 3. Commands of the host.

# Runs a command, at most 25 s, and leaves the end of what it said in $output if it fails. Through a file: a
# process that it leaves behind would keep a pipe open. Without our lock (9), for the same reason.
run() {
    timeout -k 5 20 sh -c "$together" "$$" "$@" </dev/null >"$work/output" 2>&1 9>&-
    status=$?
    [ "$status" != 0 ] || return 0
    output=$(end_of "$work/output")
    case $status in 124 | 137 | 143) output="it did not end within 20 s${output:+: $output}" ;; esac
    return "$status"
}

# The end, because that is where programs say what stopped them.
end_of() {
    tail -c 4096 "$1" 2>/dev/null | tr -c '\011\012\040-\176' '?'
}

need() {
    for tool in $tools; do
        command -v "$tool" >/dev/null && continue
        case $tool in
            awk) fail tools "$tool is missing: install the package gawk" ;;
            flock) fail tools "$tool is missing: install the package util-linux" ;;
            openssl) fail tools "$tool is missing: install the package openssl" ;;
            *) fail tools "$tool is missing: install the package coreutils" ;;
        esac
    done
}

# Begins to have the disk hold these, named from $directory. Each takes its turn of the disk: hundreds of them
# one after the other take seconds, but eight at a time are done nearly as soon as one.
begin_sync() {
    syncing=$* waiting='' part='' size=0 share=$(($# / 8 + 1))
    [ "$share" -gt 2 ] || share=2
    for path in "$@"; do
        part="$part $path" size=$((size + 1))
        [ "$size" -eq "$share" ] && sync_part
    done
    [ -z "$part" ] || sync_part
}

sync_part() {
    (cd "$directory" && exec sync $part) </dev/null >/dev/null 2>&1 9>&- &
    waiting="$waiting $!" part='' size=0
}

# Waits until the disk holds them.
end_sync() {
    synced=yes
    for job in $waiting; do
        # A signal that we caught ends the waiting, but not the work.
        for again in 1 2 3 4; do
            wait "$job"
            status=$?
            [ "$status" -gt 128 ] || break
        done
        [ "$status" = 0 ] || synced=''
    done
    [ -z "$synced" ] || return 0
    # Only to hear why: a second attempt may succeed without having written what the first one lost.
    error=$(cd "$directory" && sync $syncing 2>&1)
    error=${error:-the disk did not take what was written}
    return 1
}

# ---- 4. The place: directories that nobody else can change under us.

open_directory() {
    # What is in it are links to files of ours that stay private, so it need not be private itself.
    [ -d "$directory" ] || error=$(umask 022 && mkdir -p "$directory" 2>&1) || fail directory "$error"
    directory=$(cd -P "$directory" 2>/dev/null && pwd) || fail directory "it cannot be entered"
    above=$directory
    set --
    while [ "$above" != / ]; do
        above=${above%/*}
        above=${above:-/}
        set -- "$@" "$above"
    done
    listing=$(ls -ldn "$@" 2>&1) || fail directory "$listing"
    while read -r mode _ owner _ _ _ _ _ above; do
        sound_above "$above" || fail directory "$error"
    done <<END
$listing
END
    base=$directory/.certfleet
    work=$base/.work
    safe "$directory" && folder "$base" || fail directory "$error"
}

# Makes a directory of ours, or judges the one that is there.
folder() {
    [ -e "$1" ] || [ -L "$1" ] || error=$(mkdir "$1" 2>&1) || return 1
    safe "$1"
}

# A real directory, ours or root's, that nobody else can write to; if not, $error says why.
safe() {
    look "$1" || return 1
    case $mode in
        d????-??-?*) owned "$1" ;;
        d*) error="$1 can be changed by others than its owner: chmod go-w $1"; return 1 ;;
        l*) error="$1 is a symbolic link: put the directory it leads to in its place"; return 1 ;;
        *) error="$1 is not a directory"; return 1 ;;
    esac
}

# The same for what is above it: a group that may write is its owner's business, a sticky /tmp is fine.
sound_above() {
    case $mode in
        d???????-* | d????????[tT]*) owned "$1" ;;
        *) error="$1 can be changed by everybody: chmod o-w $1"; return 1 ;;
    esac
}

look() {
    error=$(ls -ldn "$1" 2>&1) || return 1
    set -- $error
    mode=$1 owner=$3
}

owned() {
    [ "$owner" = "$me" ] || [ "$owner" = 0 ] || {
        error="$1 belongs to user $owner, who could change what is put there: chown $me $1"
        return 1
    }
}

# A kernel lock: it is gone when its holder is, whatever became of that.
lock() {
    # Planted while others could write here, before they were kept out: what is written through it is not ours.
    for path in "$base/.lock" "$base/.holder" "$base/.last-answer.new"; do
        [ ! -L "$path" ] || fail directory "$path is a symbolic link: rm $path"
    done
    # Tried in a shell of its own, because a failing `exec` would end this one without a word.
    error=$( (: >>"$base/.lock") 2>&1) || fail directory "$error"
    exec 9>>"$base/.lock"
    waited=0
    while ! error=$(flock -n 9 2>&1); do
        [ -z "$error" ] || fail lock "$base/.lock: $error"
        [ "$waited" -lt 30 ] || fail lock "another run holds $base/.lock: $(end_of "$base/.holder")"
        step "the lock, for $waited s"
        sleep 1
        waited=$((waited + 1))
    done
    locked=yes
    { printf 'pid %s since %s from %s\n' "$$" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${SSH_CONNECTION:-here}" \
        >"$base/.holder"; } 2>/dev/null
}

# What an earlier run left. Its rubbish goes. If it was cut while it switched, what it put in place stays
# when the web server can start with it, and can still be put back when it is asked for again; else all
# goes back to what was there before that run.
recover() {
    rm -rf "$work"
    error=$(mkdir "$work" "$work/in" "$work/before" "$work/to" "$work/back" 2>&1) || fail staging "$error"
    # Made now: a disk that is full later should not hide what the tests say.
    { true >"$work/output"; } 2>/dev/null || fail staging "$work/output cannot be written"
    [ -f "$base/.switch" ] || return 0
    step 'recovery'
    noted=''
    while read -r one old; do
        plain "$one" && plain "$old" && [ -d "$base/$one/$old/" ] && noted="$noted $one:$old:$old:"
    done <"$base/.switch"
    if run sh -c "$test"; then
        recovered="$noted "
        return
    fi
    for entry in $noted; do split "$entry" && describe; done
    arm $noted && begin_sync $armed && end_sync || fail staging "$error"
    back $noted
    rm -f "$base/.switch"
}

# ---- 5. Versions and links.

# Puts a symbolic link in place by one rename: at no moment is there none.
link() {
    error=$(ln -sfn "$1" "$work/link" 2>&1 && mv -fT "$work/link" "$2" 2>&1)
}

# Renames things under $base, each given as a line `from to`, up to the first that cannot be.
rename_all() {
    error=$(
        # Begun is finished, whoever hangs up.
        trap '' HUP INT PIPE TERM
        cd "$base" || exit 1
        list=$1
        set -- $list
        if [ $# -gt 16 ] && command -v perl >/dev/null; then
            printf '%s' "$list" | perl -ne 'my ($from, $to) = split; rename $from, $to or die "$to: $!\n"' 2>&1
            exit
        fi
        printf '%s' "$list" | while read -r from to; do
            mv -fT "$from" "$to" 2>&1 || exit 1
        done
    )
}

# The checksums of a version's files, of those that are there.
sums_of() {
    (cd "$1" 2>/dev/null && sha256sum $files 2>/dev/null)
}

# What the directory .work/$1 is called as a version of $one: $2 if that is free. The same bytes again are the same
# version. Other bytes never go under a name that is taken: its files may be in use, and nginx takes a file for
# unchanged when inode and time are the same. What is to be renamed for it goes into $moves.
name_version() {
    version=$2 tries=1
    while [ -e "$base/$one/$version" ] || [ -L "$base/$one/$version" ]; do
        [ "$(sums_of "$base/$one/$version")" != "$(sums_of "$work/$1")" ] || return 0
        tries=$((tries + 1)) version=$2.$tries
    done
    moves="$moves.work/$1 $one/$version$newline"
}

# Puts the fixed links D/N/...: all at once where there is no D/N yet, else each in the place of what is there.
fix_links() {
    [ ! -e "$work/live" ] || rm -rf "$work/live"
    set --
    for file in $files; do
        set -- "$@" "../.certfleet/$one/current/$file"
    done
    error=$(umask 022 && mkdir "$work/live" 2>&1 && ln -s "$@" "$work/live/" 2>&1) || return 1
    if [ -e "$directory/$one" ]; then
        error=$(cd "$work/live" && mv -f $files "$directory/$one/" 2>&1 && sync "$directory/$one" 2>&1)
    else
        error=$(mv -fT "$work/live" "$directory/$one" 2>&1)
    fi
}

# Sees which version D/N.conf names: `-` without such a file or when it was edited, `?` if it is not ours. One that is
# ours is written also when the layout is another by now: something may still include it.
describe() {
    named=- conf=$directory/$one.conf
    if [ -e "$conf" ] || [ -L "$conf" ]; then
        named='?' first='' second='' third=''
        [ ! -f "$conf" ] || [ -L "$conf" ] || { read -r first && read -r second && read -r third; } <"$conf"
        path=${second#*"/.certfleet/$one/"}
        path=${path%%/*}
        if [ "$first" = "$conf_mark" ] && plain "$path"; then
            named=$path path=$base/$one/$path
            [ "$second$third" = "ssl_certificate \"$path/fullchain.pem\";ssl_certificate_key \"$path/privkey.pem\";" ] ||
                named=-
        fi
    elif [ "$layout" != include ]; then
        return
    fi
    [ "$named" = '?' ] || written="$written $one "
}

# A work list has words `certificate:version:version before:how`.
split() {
    one=${1%%:*} how=${1##*:}
    rest=${1#*:} && rest=${rest%:*}
    version=${rest%%:*} old=${rest#*:}
}

# Makes everything for a switch ready, so that going and coming back are renames: what a full disk cannot
# stop. In .work/to is what leads to the new versions, in .work/back to the old ones: links, called as what they
# lead to, or as their certificate if another is called the same; and the files D/N.conf. $armed names those.
arm() {
    armed='' to='' back=''
    for entry in "$@"; do
        split "$entry"
        case "$to " in
            *" $version "*) error=$(ln -sfn "$version" "$work/to/:$one" 2>&1) || return 1 ;;
            *) to="$to $version" ;;
        esac
        case $how/"$back " in
            new/*) ;;
            *" $old "*) error=$(ln -sfn "$old" "$work/back/:$one" 2>&1) || return 1 ;;
            *) back="$back $old" ;;
        esac
        case $written in *" $one "*) ;; *) continue ;; esac
        write_conf to "$version" && { [ "$how" = new ] || write_conf back "$old"; } || return 1
    done
    [ -z "$to" ] || error=$(ln -sf $to "$work/to/" 2>&1) || return 1
    [ -z "$back" ] || error=$(ln -sf $back "$work/back/" 2>&1)
}

write_conf() {
    armed="$armed .certfleet/.work/$1/$one.conf"
    # Who may read it is up to nginx: there is no secret in it.
    error=$({ umask 022 && printf '%s\nssl_certificate "%s";\nssl_certificate_key "%s";\n' "$conf_mark" \
        "$base/$one/$2/fullchain.pem" "$base/$one/$2/privkey.pem" >"$work/$1/$one.conf"; } 2>&1)
}

# The switch. What is renamed is on the disk when `end_sync` says so.
go() {
    confs='' synced='' moves=''
    for entry in "$@"; do
        split "$entry"
        from=:$one
        [ -L "$work/to/$from" ] || from=$version
        moves="$moves.work/to/$from $one/current$newline"
        synced="$synced .certfleet/$one"
        [ ! -f "$work/to/$one.conf" ] || confs="$confs $one.conf"
    done
    rename_all "$moves" || return 1
    [ -z "$confs" ] || error=$(cd "$work/to" && mv -f $confs "$directory/" 2>&1) || return 1
    begin_sync $synced ${confs:+.}
}

# If even this fails, `.switch` stays, and the next run finds what to do.
back() {
    confs='' synced='' moves=''
    for entry in "$@"; do
        split "$entry"
        from=:$one
        [ -L "$work/back/$from" ] || from=$old
        [ ! -L "$work/back/$from" ] || moves="$moves.work/back/$from $one/current$newline"
        synced="$synced .certfleet/$one"
        [ ! -f "$work/back/$one.conf" ] || confs="$confs $one.conf"
    done
    rename_all "$moves" || fail switch "it could not be put back: $error"
    [ -z "$confs" ] || error=$(cd "$work/back" && mv -f $confs "$directory/" 2>&1) || fail switch "$error"
    begin_sync $synced ${confs:+.}
    end_sync || fail switch "$error"
}

# Writes down what each of the listed goes back to, before the first of them is switched.
note() {
    noted=''
    for entry in "$@"; do
        split "$entry"
        noted="$noted$one $old$newline"
    done
    error=$({ printf '%s' "$noted" >"$work/note"; } 2>&1 && mv -fT "$work/note" "$base/.switch" 2>&1)
}

# ---- 6. Installing.

install() {
    new='' same='' replace='' switched='' ours='' plan='' staged=''
    while [ "$count" -gt 0 ]; do
        read -r one version force keys leaves chains || fail input 'the names did not arrive'
        plain "$one" && plain "$version" || fail input 'a name is not allowed'
        number "$keys" && number "$leaves" && number "$chains" || fail input 'a length is not allowed'
        plan="$plan$one $version $force $keys $leaves $chains$newline"
        staged="$staged $one" count=$((count - 1))
    done
    stage
    judge_request
    survey
    step 'comparing'
    moves=''
    while read -r one version force old links safety; do
        # With hundreds of them on a slow disk somebody may wonder whether we live.
        step "comparing $one"
        compare
    done <<END
$found
END
    [ -n "$new$same$replace" ] || return 0
    rename_all "$moves" || fail staging "$error"
    grant
    arm $new $replace && { [ -z "$replace" ] || note $replace; } || fail staging "$error"
    step 'writing to the disk'
    begin_sync $(all_of $new $same $replace) $armed .certfleet ${replace:+.certfleet/.switch}
    alone
    end_sync || { rm -f "$base/.switch"; fail staging "$error"; }
    # From here on we go to the end, whoever hangs up. Caught, not ignored: the commands that we start
    # should not inherit it, a web server must hear its SIGHUP.
    trap : HUP INT PIPE TERM
    put_new
    switch
    remember $switched
    [ -z "$new$same$switched" ] || load
    for entry in $new; do split "$entry" && record installed "$one" "$version" - ''; done
    for entry in $same; do split "$entry" && record unchanged "$one" "$version" - ''; done
    for entry in $switched; do split "$entry" && record switched "$one" "$version" "$old" ''; done
    rm -f "$base/.switch"
    [ -z "$switched" ] || prune $switched
}

refuse() {
    record refused "$one" "$version" - "$1"
}

# Takes all files of the input into .work/in/N/..., and sees that they are what was sent.
#
# The data are lines: of each certificate the checksums of its files, the key, the leaf, the other certificates;
# then empty ones and `end`, up to a full block, so that dd takes all of it and not a byte more.
stage() {
    read -r blocks && number "$blocks" || fail input 'the certificates did not arrive'
    step 'staging'
    error=$({ printf '%s' "$plan" >"$work/plan" && cd "$work/in" && mkdir $staged; } 2>&1) ||
        fail staging "$error"
    said=$(dd bs=4096 count="$blocks" iflag=fullblock 2>/dev/null |
        (cd "$work/in" && awk -v files="$files" -v made="$made" '
            function put(name, parts,    i, n, part, path, text) {
                n = split(parts, part, ",")
                for (i = 1; i <= n; i++)
                    text = text (part[i] == "fullchain" ? got["cert"] got["chain"] : got[part[i]])
                path = plan[1] "/" name
                printf "%s", text >path
                close(path)
                print sums[++done] "  " path >"../sums"
            }
            BEGIN {
                split("privkey cert chain", kind, " ")
                whole = split("privkey.pem=privkey fullchain.pem=fullchain cert.pem=cert chain.pem=chain " made, file, " ")
            }
            FNR == NR { plans[++count] = $0; next }
            ended { next }
            step > 0 { got[kind[step]] = got[kind[step]] $0 "\n"; left[step]-- }
            step == 0 {
                if (turn == count) {
                    ended = ($0 == "end")
                    next
                }
                split(plans[++turn], plan, " ")
                split($0, sums, " ")
                done = 0
                for (step = 1; step <= 3; step++) {
                    left[step] = plan[step + 3]
                    got[kind[step]] = ""
                }
                step = 1
            }
            {
                while (step <= 3 && left[step] == 0)
                    step++
                if (step <= 3)
                    next
                for (i = 1; i <= whole; i++) {
                    split(file[i], of, "=")
                    put(of[1], of[2])
                }
                step = 0
            }
            END { if (ended) print "end" }
        ' ../plan - 2>&1))
    case $said in
        end) ;;
        '') fail input 'the certificates did not arrive' ;;
        *) fail staging "$said" ;;
    esac
    (cd "$work/in" && sha256sum -c ../sums) >/dev/null 2>&1 ||
        fail staging 'what is on the disk is not what was sent: is it full?'
}

# Makes the directories of new names, and looks at what is there of all of them at once. $found gets a line for each:
# the plan's name, version, and whether by force; the version that `current` leads to; whether the fixed links are
# `ours`, some are `missing`, or something `foreign` is in their place; and whether its directories look `safe`.
survey() {
    paths='' missing=''
    for one in $staged; do
        [ -e "$base/$one" ] || [ -L "$base/$one" ] || missing="$missing $one"
        paths="$paths .certfleet/$one .certfleet/$one/current $one"
        for file in $files; do
            paths="$paths $one/$file"
        done
    done
    [ -z "$missing" ] || error=$(cd "$base" && mkdir $missing 2>&1) || fail staging "$error"
    found=$(cd "$directory" && ls -ldn $paths 2>/dev/null | awk -v me="$me" -v files="$files" '
        function bad(path) { return mode[path] !~ /^d....-..-/ || owner[path] != me && owner[path] != 0 }
        BEGIN { count = split(files, file, " ") }
        FNR == NR { plan[++plans] = $1 " " $2 " " $3; name[plans] = $1; next }
        {
            target = ""
            if (arrow = index($0, " -> ")) {
                target = substr($0, arrow + 4)
                $0 = substr($0, 1, arrow - 1)
            }
            mode[$NF] = $1
            owner[$NF] = $3
            to[$NF] = target
        }
        END {
            for (i = 1; i <= plans; i++) {
                one = name[i]
                links = "ours"
                for (j = 1; j <= count; j++) {
                    path = one "/" file[j]
                    if (!(path in mode)) {
                        if (links == "ours") links = "missing"
                    } else if (to[path] != "../.certfleet/" one "/current/" file[j])
                        links = "foreign"
                }
                old = to[".certfleet/" one "/current"]
                if (old !~ /^[A-Za-z0-9._-]+$/) old = "-"
                safety = bad(".certfleet/" one) || (one in mode) && bad(one) ? "doubtful" : "safe"
                print plan[i], old, links, safety
            }
        }
    ' "$work/plan" -)
    [ -n "$found" ] || fail staging 'the directory cannot be listed'
}

# Finds what the staged files of $one would replace: that goes into a list.
compare() {
    live=$directory/$one
    if [ "$safety" != safe ]; then
        safe "$base/$one" && { [ ! -e "$live" ] && [ ! -L "$live" ] || safe "$live"; } || {
            refuse "$error"
            return
        }
    fi
    seen=''
    for file in $files; do
        [ -e "$live/$file" ] || continue
        seen=yes
        [ -f "$live/$file" ] || {
            refuse "$live/$file is not a file"
            return
        }
    done
    plain "$old" && [ -d "$base/$one/$old/" ] || links=foreign
    describe
    if [ "$layout/$named" = 'include/?' ]; then
        refuse "$conf is not ours: move it away"
        return
    fi
    # Whoever put a newer one there knows more than we do: another controller, or we before a restore.
    if [ -n "$seen" ] && [ "$links" != foreign ] && [ "$force" != force ] &&
        number "${old%%-*}" && number "${version%%-*}" && [ "${old%%-*}" -gt "${version%%-*}" ]; then
        record newer "$one" "$version" "$old" ''
        return
    fi
    ours="$ours $one"
    name_version "in/$one" "$version"
    before=$old
    # Only where it is asked for again: what has been in place ever since is what a newer one goes back to.
    case $version/$recovered in "$old"/*" $one:"*) before=${recovered##*" $one:"} && before=${before%%:*} ;; esac
    case $written in
        *" $one "*)
            # Cut between its rename and that of `current`, or edited.
            [ "$named" = "$old" ] || [ "$links" != ours ] || links=missing
            [ "$named" = "$version" ] || [ ! -d "$base/$one/$named/" ] || before=$named
            ;;
    esac

    if [ -z "$seen" ]; then
        new="$new $one:$version:-:new"
    elif [ "$links" = foreign ]; then
        copy_live
    elif [ "$version" != "$old" ] || [ "$version" != "$before" ]; then
        replace="$replace $one:$version:$before:$links"
    elif [ "$links" = missing ]; then
        new="$new $one:$version:-:new"
    else
        same="$same $one:$version:-:"
    fi
}

# Gives all versions of our names the owner, group and mode that they should have, before any of them is
# switched to; also those of earlier runs, which may have had other orders. Without an owner they are ours.
grant() {
    [ "$key_owner" != - ] || key_owner=$me
    [ "$key_group" != - ] || key_group=''
    error=$(
        cd "$base" || exit 1
        folders=". $ours" versions='' patterns=''
        set +f
        for one in $ours; do
            for folder in "$one"/[0-9]*-*; do
                [ ! -d "$folder" ] || [ -L "$folder" ] || versions="$versions $folder" patterns="$patterns $folder/*"
            done
        done
        files=$(echo $patterns)
        set -f
        chmod "$passage" $folders $versions 2>&1 || exit 1
        [ -z "$key_group" ] || chown ":$key_group" $folders $versions 2>&1 || exit 1
        chown "$key_owner${key_group:+:$key_group}" $files 2>&1 || exit 1
        chmod "$key_mode" $files 2>&1
    ) || fail staging "$error"
}

# The paths of these versions, to have the disk hold them.
all_of() {
    for entry in "$@"; do
        split "$entry"
        for file in '' $files; do
            printf '%s ' ".certfleet/$one/$version/$file"
        done
        printf '%s ' ".certfleet/$one"
    done
}

# What is under D/N by certbot's hand or anybody's becomes a version of ours, to take it over from there.
copy_live() {
    wanted=$version
    set --
    for file in $files; do
        [ ! -e "$live/$file" ] || set -- "$@" "$live/$file"
    done
    error=$(mkdir "$work/before/$one" 2>&1 && cp "$@" "$work/before/$one/" 2>&1 && cd "$work/before/$one" &&
        sync $(ls) . 2>&1) || fail staging "$error"
    name_version "before/$one" 0-before
    replace="$replace $one:$wanted:$version:take-over"
}

# nginx judges the new pairs alone, before anything in use is touched. Not with an nginx before 1.19.5: it
# cannot be kept from opening the real error log.
alone() {
    [ -n "$new$replace" ] && command -v nginx >/dev/null || return 0
    case $(nginx -h 2>&1 </dev/null) in *' -e filename'*) ;; *) return 0 ;; esac
    step 'the test of the new pairs'
    # If nginx does not like this small config without any pair in it, it cannot tell us anything.
    judge $new $replace || ! judge && return 0
    good=''
    for entry in $new; do
        judge "$entry" && good="$good $entry" || refuse "nginx does not take it: $output"
    done
    new=$good good=''
    for entry in $replace; do
        judge "$entry" && good="$good $entry" || refuse "nginx does not take it: $output"
    done
    replace=$good
}

# One server may have many pairs: that is less work for nginx than many servers.
judge() {
    rm -rf "$work/alone" && mkdir "$work/alone" || return 1
    {
        echo 'pid pid; events {} http { access_log off; client_body_temp_path t1; proxy_temp_path t2;'
        echo 'fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5; server { listen unix:socket;'
        for entry in "$@"; do
            split "$entry"
            echo "ssl_certificate ../../$one/$version/fullchain.pem;"
            echo "ssl_certificate_key ../../$one/$version/privkey.pem;"
        done
        echo '} }'
    } >"$work/alone/nginx.conf"
    run sh -c 'cd "$1" && exec nginx -t -q -e stderr -p ./ -c ./nginx.conf' sh "$work/alone"
}

# Names that are not there yet replace nothing, so they come first and are never taken back: a config that
# names them already cannot even be tested without.
put_new() {
    [ -n "$new" ] || return 0
    step 'the new names'
    go $new && end_sync || fail staging "$error"
    good=''
    for entry in $new; do
        split "$entry"
        fix_links && good="$good $entry" || refuse "$error"
    done
    new=$good
    error=$(sync "$directory" 2>&1) || fail staging "$error"
}

# Nobody's fault but the host's: what it uses is as it was, and there is nothing to load.
give_up() {
    for entry in "$@"; do
        split "$entry"
        record broken "$one" "$version" - "$output"
    done
    new='' same=''
}

# Switches all in $replace, or those of them with which the config test passes; they are in $switched. If it does
# not pass without them either, it is the host's own fault, and nothing is left to load.
switch() {
    case $replace in
        *:take-over*)
            # Not even links of others are replaced on a host that is broken.
            step 'the config test'
            run sh -c "$test" || {
                give_up $new $same $replace
                return
            }
            ;;
    esac
    ready=''
    for entry in $replace; do
        split "$entry"
        case $how in
            take-over) step "taking over $one" && take_over ;;
            missing) fix_links ;;
        esac && ready="$ready $entry" || refuse "$error"
    done
    [ -n "$new$same$ready" ] || return 0
    step 'the switch'
    why=''
    if go $ready; then
        step 'the config test'
        run sh -c "$test" || why=${output:-it said nothing}
        end_sync || why=$error
    else
        why=$error
    fi
    if [ -z "$why" ]; then
        switched=$ready
        return
    fi
    [ -z "$ready" ] || back $ready
    if [ -z "$ready" ] || { step 'the config test with the old ones' && ! run sh -c "$test"; }; then
        give_up $new $same $ready
        return
    fi
    case $ready in
        ' '*' '*) one_by_one $ready ;;
        *) split "${ready# }" && record rolled-back "$one" "$version" "$old" "$why" ;;
    esac
}

# Makes D/N ours: `current` leads to the copy of what is there, then link after link takes the place of
# file after file. So what is read through D/N is the same bytes all the time.
take_over() {
    if [ "$(sums_of "$directory/$one")" != "$(sums_of "$base/$one/$old")" ]; then
        error="somebody changed $directory/$one at the same time"
        return 1
    fi
    link "$old" "$base/$one/current" && fix_links
}

# One bad certificate must not keep the others from being renewed.
one_by_one() {
    began=$(date +%s)
    for entry in "$@"; do
        split "$entry"
        step "the config test of $one"
        if [ $(($(date +%s) - began)) -ge 40 ]; then
            output='one of several certificates was refused, and there was no time to test this one alone'
        elif ! { arm "$entry" && begin_sync $armed && end_sync && go "$entry" && end_sync; }; then
            output=$error
            back "$entry"
        elif run sh -c "$test"; then
            switched="$switched $entry"
            continue
        else
            back "$entry"
        fi
        record rolled-back "$one" "$version" "$old" "$output"
    done
}

# The reload. Its success proves nothing (the controller looks from outside), but its failure does.
load() {
    step 'the reload'
    if run sh -c "$reload"; then
        record reload - ok - ''
        return
    fi
    why=$output
    if nothing_runs; then
        record reload - nothing-runs - "$why"
        return
    fi
    record reload - failed - "$why"
    [ -n "$switched" ] || return
    back $switched
    for entry in $switched; do
        split "$entry" && record reload-failed "$one" "$version" "$old" "$why"
    done
    switched=''
    # Some of it may have been loaded; what runs should be what is there.
    step 'the reload of the old ones'
    run sh -c "$reload"
}

# Whether a reload failed because there is nothing to reload: as systemctl says it, as nginx says it, or
# because no nginx is to be seen where one should be.
nothing_runs() {
    case $output in
        *'is not active, cannot reload'* | *'because it is inactive'*) return 0 ;;
        *'[error] open() "'*'failed (2: No such file'* | *'invalid PID number ""'*) return 0 ;;
        *'failed (3: No such process)'*) return 0 ;;
    esac
    case "$test $reload" in
        *nginx*) command -v pidof >/dev/null && ! pidof nginx >/dev/null ;;
        *) return 1 ;;
    esac
}

# Three versions stay, and always the current one, the one before, and what was there before us.
prune() {
    listing='' keepers='' gone='' last=''
    set +f
    for entry in "$@"; do
        split "$entry"
        keepers="$keepers $one/$version $one/$old "
        for found in "$base/$one"/[1-9]*-*; do
            listing="$listing$one ${found##*/}$newline"
        done
    done
    set -f
    listing=$(printf '%s' "$listing" | sort -k 1,1 -k 2,2rn)
    while read -r one found; do
        [ "$one" = "$last" ] || kept=0
        last=$one kept=$((kept + 1))
        [ "$kept" -gt 3 ] || continue
        case $keepers in *" $one/$found "*) ;; *) gone="$gone $one/$found" ;; esac
    done <<END
$listing
END
    # Renamed first: a version is there with all its files, or not at all. Of two that are called the same one stays
    # until the next time.
    [ -z "$gone" ] || (mkdir "$work/old" && cd "$base" && mv -f $gone "$work/old/") 2>/dev/null
}

# ---- 7. Putting back what turned out not to be served.

put_back() {
    ready=''
    while [ "$count" -gt 0 ]; do
        read -r one version to || fail input 'the names did not arrive'
        plain "$one" && plain "$version" && plain "$to" || fail input 'a name is not allowed'
        current=$(readlink "$base/$one/current")
        if [ "$current" != "$version" ]; then
            record kept "$one" "$version" "$to" "it is $current by now"
        elif [ ! -d "$base/$one/$to/" ]; then
            record kept "$one" "$version" "$to" "$base/$one/$to is gone"
        elif ! may_go_back; then
            record kept "$one" "$version" "$to" "$error"
        else
            describe
            ready="$ready $one:$to:$version:"
        fi
        count=$((count - 1))
    done
    read -r last && [ "$last" = end ] || fail input 'the end did not arrive'
    [ -n "$ready" ] || return 0
    arm $ready && note $ready && begin_sync $armed .certfleet .certfleet/.switch && end_sync ||
        fail staging "$error"
    trap : HUP INT PIPE TERM
    why=''
    if go $ready; then
        step 'the config test with the old ones'
        run sh -c "$test" || why=${output:-it said nothing}
        end_sync || why=$error
    else
        why=$error
    fi
    if [ -z "$why" ]; then
        step 'the reload of the old ones'
        run sh -c "$reload" || nothing_runs || record reload - failed - "$output"
        for entry in $ready; do split "$entry" && record put-back "$one" "$old" "$version" ''; done
    else
        back $ready
        for entry in $ready; do split "$entry" && record kept "$one" "$old" "$version" "$why"; done
    fi
    rm -f "$base/.switch"
}

main
