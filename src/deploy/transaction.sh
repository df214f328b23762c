# What certfleet runs on a host to put certificates in place: all of it, in one transaction.
#
# This text arrives on standard input, the data behind it. Nothing is installed on the host. It needs a
# POSIX shell, and flock, sha256sum, timeout, sync, dd and mv -T as coreutils, util-linux or busybox
# have them. D is the host's `directory`, N a certificate's name:
#
#   D/.certfleet/N/<version>-<fingerprint>/   the four files; written once, never again
#   D/.certfleet/N/current                    link to one of those: renaming it switches all four
#   D/N/privkey.pem ...                         fixed links through `current`; what nginx.conf names
#   D/.certfleet/.lock, .holder               one transaction at a time; who is in it, for people
#   D/.certfleet/.switch                      there while a switch is under way: what to go back to
#   D/.certfleet/.work/                       all that is temporary: rubbish for the next run
#   D/.certfleet/.last-answer                 the answer, in case nobody was there to hear it
#
# The one rule: pull the plug between any two commands, and the web server still starts. So what is in
# use changes by rename only, and only to files that are complete, on the disk, and a matching pair.
#
# All is in functions and the last line calls the first: a text cut short on its way does nothing. What is
# not quoted is meant to be split: lists of names, which have no blanks. There is no globbing.

main() {
    set -fu
    # Keys are 0600 from their first instant, not after a chmod.
    umask 077
    # Messages in English, and a character is a byte: ${#...} counts what the controller counts.
    LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
    export LC_ALL PATH
    # What would make cd and ls print something else than is read here.
    unset CDPATH QUOTING_STYLE
    newline='
'
    files='privkey.pem fullchain.pem cert.pem chain.pem'
    me=$(id -u)
    answer='' locked='' recovered=''

    read -r nonce action count key_owner key_group key_mode passage || exit 1
    take && directory=$value && take && test=$value && take && reload=$value ||
        fail input 'the settings did not arrive'
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

# ---- 2. Reading the input: `read` takes a line and not a byte more, dd an exact count. Nothing may read
# ----    ahead: the rest belongs to the next one.

# Takes a text into $value.
take() {
    read -r length && number "$length" || return 1
    value=$(dd bs="$length" count=1 iflag=fullblock 2>/dev/null)
    [ "${#value}" -eq "$length" ]
}

# Takes the next file of $one into $1; its line for `sha256sum -c` goes to $sums.
take_file() {
    read -r length sum && number "$length" || fail input 'the certificates did not arrive'
    sums="$sums$sum  $1$newline"
    if [ "$length" = 0 ]; then
        { true >"$work/in/$1"; } 2>/dev/null || fail staging "$work/in/$1 cannot be written"
        return
    fi
    error=$(dd bs="$length" count=1 iflag=fullblock of="$work/in/$1" 2>&1) ||
        fail staging "${error%%"$newline"*}"
}

# From 0 to 1048576, written plainly: more is no certificate.
number() {
    case $1 in '' | 0?* | *[!0-9]* | ????????*) return 1 ;; esac
    [ "$1" -le 1048576 ]
}

# The controller checks names too. What becomes a path is checked where it becomes one.
plain() {
    case $1 in '' | .* | -* | *[!A-Za-z0-9._-]*) return 1 ;; esac
}

# ---- 3. Commands of the host.

# Runs a command, at most 25 s, and leaves the end of what it said in $output. Through a file: a process
# that it leaves behind would keep a pipe open. Without our lock (9), for the same reason.
run() {
    timeout -k 5 20 "$@" </dev/null >"$work/output" 2>&1 9>&-
    status=$?
    output=$(end_of "$work/output")
    case $status in 124 | 137 | 143) output="it did not end within 20 s${output:+: $output}" ;; esac
    return "$status"
}

# The end, because that is where programs say what stopped them.
end_of() {
    tail -c 4096 "$1" 2>/dev/null | tr -c '\011\012\040-\176' '?'
}

need() {
    for tool in chmod chown cp date dd dirname flock id ln ls mkdir mv readlink rm sha256sum sleep sort sync tail timeout tr; do
        command -v "$tool" >/dev/null && continue
        case $tool in
            flock) fail tools "$tool is missing: install the package util-linux" ;;
            *) fail tools "$tool is missing: install the package coreutils" ;;
        esac
    done
}

# ---- 4. The place: directories that nobody else can change under us.

open_directory() {
    # What is in it are links to files of ours that stay private, so it need not be private itself.
    [ -d "$directory" ] || error=$(umask 022 && mkdir -p "$directory" 2>&1) || fail directory "$error"
    directory=$(cd -P "$directory" 2>/dev/null && pwd) || fail directory "it cannot be entered"
    above=$directory
    while [ "$above" != / ]; do
        above=$(dirname "$above")
        safe_above "$above" || fail directory "$error"
    done
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
        l*) error="$1 is a symbolic link: a directory is needed there"; return 1 ;;
        *) error="$1 is not a directory"; return 1 ;;
    esac
}

# The same for what is above it: a group that may write is its owner's business, a sticky /tmp is fine.
safe_above() {
    look "$1" || return 1
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
    error=$(mkdir "$work" 2>&1 && ln -s x "$work/x" 2>&1 && mv -fT "$work/x" "$work/y" 2>&1) ||
        fail staging "$error"
    # Made now: a disk that is full later should not hide what the tests say.
    { true >"$work/output"; } 2>/dev/null || fail staging "$work/output cannot be written"
    [ -f "$base/.switch" ] || return 0
    step 'recovery'
    noted=''
    while read -r one old; do
        plain "$one" && plain "$old" && [ -d "$base/$one/$old/" ] && noted="$noted $one:$old"
    done <"$base/.switch"
    if run sh -c "$test"; then
        recovered="$noted "
        return
    fi
    for entry in $noted; do
        link "${entry#*:}" "$base/${entry%%:*}/current" || fail switch "$error"
    done
    rm -f "$base/.switch"
}

# ---- 5. Versions and links.

# Puts a symbolic link in place by one rename: at no moment is there none.
link() {
    error=$(ln -sfn "$1" "$work/link" 2>&1 && mv -fT "$work/link" "$2" 2>&1)
}

# The checksums of a version's files, of those that are there.
sums_of() {
    (cd "$1" 2>/dev/null && sha256sum $files 2>/dev/null)
}

# Turns the directory $1, which is on the disk, into a version of certificate $2, called $3 if that is
# free; $version is what it is called. The same bytes again are the same version. Other bytes never go
# under a name that is taken: its files may be in use, and nginx takes a file for unchanged when inode and
# time are the same.
keep() {
    version=$3 tries=1
    while [ -e "$base/$2/$version" ] || [ -L "$base/$2/$version" ]; do
        [ "$(sums_of "$base/$2/$version")" != "$(sums_of "$1")" ] || return 0
        tries=$((tries + 1)) version=$3.$tries
    done
    error=$(mv -fT "$1" "$base/$2/$version" 2>&1)
}

# Puts the fixed links D/N/...: all at once where there is no D/N yet, else each in the place of what is there.
fix_links() {
    [ ! -e "$work/live" ] || rm -rf "$work/live"
    from=../.certfleet/$1/current
    error=$(umask 022 && mkdir "$work/live" 2>&1 && ln -s "$from/privkey.pem" "$from/fullchain.pem" \
        "$from/cert.pem" "$from/chain.pem" "$work/live/" 2>&1) || return 1
    if [ -e "$directory/$1" ]; then
        error=$(cd "$work/live" && mv -f $files "$directory/$1/" 2>&1 && sync "$directory/$1" 2>&1)
    else
        error=$(mv -fT "$work/live" "$directory/$1" 2>&1)
    fi
}

# A work list has words `certificate:version:version before:how`.
split() {
    one=${1%%:*} how=${1##*:}
    rest=${1#*:} && rest=${rest%:*}
    version=${rest%%:*} old=${rest#*:}
}

# Makes both links of a switch ready, so that going and coming back are one rename each: what a full disk
# cannot stop.
arm() {
    split "$1"
    error=$(ln -sfn "$version" "$work/to:$one" 2>&1 && ln -sfn "$old" "$work/back:$one" 2>&1)
}

go() {
    for entry in "$@"; do
        split "$entry"
        error=$(mv -fT "$work/to:$one" "$base/$one/current" 2>&1) || return 1
    done
    sync_names "$@"
}

# If even this fails, `.switch` stays, and the next run finds what to do.
back() {
    for entry in "$@"; do
        split "$entry"
        [ ! -L "$work/back:$one" ] || error=$(mv -fT "$work/back:$one" "$base/$one/current" 2>&1) ||
            fail switch "$one could not be put back: $error"
    done
    sync_names "$@" || fail switch "$error"
}

# Has the disk hold what was renamed in the directories of these.
sync_names() {
    synced=''
    for entry in "$@"; do
        synced="$synced ${entry%%:*}"
    done
    [ -z "$synced" ] || error=$(cd "$base" && sync $synced 2>&1)
}

# Writes down what each of the listed goes back to, before the first of them is switched.
note() {
    noted=''
    for entry in "$@"; do
        split "$entry"
        noted="$noted$one $old$newline"
    done
    error=$({ printf '%s' "$noted" >"$work/note"; } 2>&1 && sync "$work/note" 2>&1 &&
        mv -fT "$work/note" "$base/.switch" 2>&1 && sync "$base" 2>&1)
}

# ---- 6. Installing.

install() {
    new='' same='' replace='' switched='' names='' ours=''
    left=$count
    while [ "$left" -gt 0 ]; do
        read -r one version force || fail input 'the names did not arrive'
        plain "$one" && plain "$version" || fail input 'a name is not allowed'
        names="$names $one:$version:$force" left=$((left - 1))
    done
    stage
    for entry in $names; do
        one=${entry%%:*} force=${entry##*:}
        version=${entry#*:} && version=${version%:*}
        compare
    done
    grant
    sync_names $names || fail staging "$error"
    alone
    put_new
    [ -n "$new$same$replace" ] || return 0
    step 'the config test'
    if ! run sh -c "$test"; then
        # Nobody's fault but the host's: nothing of what it uses has been changed.
        broken $new $same $replace
        return
    fi
    # From here on we go to the end, whoever hangs up. Caught, not ignored: the commands that we start
    # should not inherit it, a web server must hear its SIGHUP.
    trap : HUP INT PIPE TERM
    switch
    [ -z "$new$same$switched" ] || load
    for entry in $new; do split "$entry" && record installed "$one" "$version" - ''; done
    for entry in $same; do split "$entry" && record unchanged "$one" "$version" - ''; done
    for entry in $switched; do split "$entry" && record switched "$one" "$version" "$old" ''; done
    rm -f "$base/.switch"
    for entry in $switched; do split "$entry" && prune; done
}

refuse() {
    record refused "$one" "$version" - "$1"
}

# Takes all files of the input into $work/in/N/..., and has the disk hold them before anything leads to them.
stage() {
    staged='' sums=''
    for entry in $names; do
        staged="$staged ${entry%%:*}"
    done
    error=$(mkdir "$work/in" 2>&1 && cd "$work/in" && mkdir $staged 2>&1) || fail staging "$error"
    for one in $staged; do
        step "staging of $one"
        for file in $files; do
            take_file "$one/$file"
        done
    done
    read -r last && [ "$last" = end ] || fail input 'the end did not arrive'
    step 'checksums'
    { printf '%s' "$sums" >"$work/sums"; } 2>/dev/null || fail staging "cannot write $work/sums"
    error=$(cd "$work/in" && sha256sum -c ../sums 2>&1) || fail input 'the certificates arrived damaged'
    error=$(
        cd "$work/in" || exit 1
        for one in $staged; do
            set -- "$@" "$one/privkey.pem" "$one/fullchain.pem" "$one/cert.pem" "$one/chain.pem" "$one"
        done
        sync "$@" 2>&1
    ) || fail staging "$error"
    missing=''
    for one in $staged; do
        [ -e "$base/$one" ] || [ -L "$base/$one" ] || missing="$missing $one"
    done
    [ -z "$missing" ] || error=$(cd "$base" && mkdir $missing 2>&1 && sync . 2>&1) || fail staging "$error"
    # One look at all, and at each alone only if something is wrong with one of them.
    all_safe=yes
    for there in "$base" "$directory"; do
        listing=$(cd "$there" && ls -ldn $staged 2>/dev/null)
        while read -r mode _ owner _; do
            case $mode in '' | d????-??-?*) ;; *) all_safe='' ;; esac
            [ -z "$mode" ] || [ "$owner" = "$me" ] || [ "$owner" = 0 ] || all_safe=''
        done <<END
$listing
END
    done
}

# Makes a version of the staged files of $one, and sees what it would replace: that goes into a list.
compare() {
    live=$directory/$one
    if [ -z "$all_safe" ]; then
        safe "$base/$one" && { [ ! -e "$live" ] && [ ! -L "$live" ] || safe "$live"; } || {
            refuse "$error"
            return
        }
    fi
    ours="$ours $one"
    listing=''
    [ ! -d "$live" ] || listing=$(ls -ln "$live" 2>/dev/null)$newline
    foreign='' missing='' seen=''
    for file in $files; do
        if [ -e "$live/$file" ]; then
            seen=yes
            [ -f "$live/$file" ] || {
                refuse "$live/$file is not a file"
                return
            }
        fi
        case $listing in
            *" $file -> ../.certfleet/$one/current/$file$newline"*) ;;
            *" $file$newline"* | *" $file -> "*) foreign=yes ;;
            *) missing=yes ;;
        esac
    done
    old=''
    [ ! -L "$base/$one/current" ] || old=$(readlink "$base/$one/current")
    plain "$old" && [ -d "$base/$one/$old/" ] || foreign=yes
    # Whoever put a newer one there knows more than we do: another controller, or we before a restore.
    if [ -n "$seen" ] && [ -z "$foreign" ] && [ "$force" != force ] &&
        number "${old%%-*}" && number "${version%%-*}" && [ "${old%%-*}" -gt "${version%%-*}" ]; then
        record newer "$one" "$version" "$old" ''
        return
    fi
    keep "$work/in/$one" "$one" "$version" || fail staging "$error"
    before=$old
    case $recovered in *" $one:"*) before=${recovered##*" $one:"} && before=${before%% *} ;; esac

    if [ -z "$seen" ]; then
        new="$new $one:$version:-:fix"
    elif [ -n "$foreign" ]; then
        copy_live
    elif [ "$version" != "$old" ] || [ "$version" != "$before" ]; then
        replace="$replace $one:$version:$before:${missing:+fix}"
    elif [ -n "$missing" ]; then
        new="$new $one:$version:-:fix"
    else
        same="$same $one:$version:-:"
    fi
}

# Gives all versions of our names the owner, group and mode that they should have, before any of them is
# switched to; also those of earlier runs, which may have had other orders. Without an owner or a group the
# modes alone close what was open.
grant() {
    [ -n "$ours" ] || return 0
    [ "$key_owner" != - ] || key_owner=''
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
        [ -z "$key_owner$key_group" ] || chown "$key_owner${key_group:+:$key_group}" $files 2>&1 || exit 1
        chmod "$key_mode" $files 2>&1
    ) || fail staging "$error"
}

# What is under D/N by certbot's hand or anybody's becomes a version of ours, to take it over from there.
copy_live() {
    wanted=$version
    set --
    for file in $files; do
        [ ! -e "$live/$file" ] || set -- "$@" "$live/$file"
    done
    rm -rf "$work/before"
    error=$(mkdir "$work/before" 2>&1 && cp "$@" "$work/before/" 2>&1 && cd "$work/before" &&
        sync $(ls) . 2>&1) && keep "$work/before" "$one" 0-before || fail staging "$error"
    replace="$replace $one:$wanted:$version:take-over"
}

# nginx judges the new pairs alone, before anything in use is touched. Not with an nginx before 1.19.5: it
# cannot be kept from opening the real error log.
alone() {
    command -v nginx >/dev/null || return 0
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

judge() {
    rm -rf "$work/alone" && mkdir "$work/alone" || return 1
    {
        echo 'pid pid; events {} http { access_log off; client_body_temp_path t1; proxy_temp_path t2;'
        echo 'fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;'
        for entry in "$@"; do
            split "$entry"
            echo "server { listen unix:socket ssl; server_name $one;"
            echo "ssl_certificate ../../$one/$version/fullchain.pem;"
            echo "ssl_certificate_key ../../$one/$version/privkey.pem; }"
        done
        echo '}'
    } >"$work/alone/nginx.conf"
    run sh -c 'cd "$1" && exec nginx -t -q -e stderr -p ./ -c ./nginx.conf' sh "$work/alone"
}

# Names that are not there yet replace nothing, so they come first and are never taken back: a config that
# names them already cannot even be tested without.
put_new() {
    good=''
    for entry in $new; do
        split "$entry"
        if link "$version" "$base/$one/current" && fix_links "$one"; then
            good="$good $entry"
        else
            refuse "$error"
        fi
    done
    new=$good
    [ -z "$new" ] || { sync_names $new && error=$(sync "$directory" 2>&1); } || fail staging "$error"
}

broken() {
    for entry in "$@"; do
        split "$entry"
        record broken "$one" "$version" - "$output"
    done
}

# Switches all in $replace, or those of them with which the config test passes; they are in $switched.
switch() {
    ready=''
    for entry in $replace; do
        split "$entry"
        step "the switch of $one"
        if { [ "$how" != take-over ] || take_over; } && { [ "$how" != fix ] || fix_links "$one"; } &&
            arm "$entry"; then
            ready="$ready $entry"
        else
            refuse "$error"
        fi
    done
    [ -n "$ready" ] || return 0
    note $ready || fail switch "$error"
    step 'the config test'
    if go $ready && run sh -c "$test"; then
        switched=$ready
        return
    fi
    why=${error:-$output}
    back $ready
    step 'the config test with the old ones'
    if ! run sh -c "$test"; then
        broken $ready
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
    link "$old" "$base/$one/current" && fix_links "$one"
}

# One bad certificate must not keep the others from being renewed.
one_by_one() {
    began=$(date +%s)
    for entry in "$@"; do
        split "$entry"
        step "the config test of $one"
        if [ $(($(date +%s) - began)) -ge 40 ]; then
            output='one of several certificates was refused, and there was no time to test this one alone'
        elif ! arm "$entry" || ! go "$entry"; then
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
    for entry in $switched; do
        back "$entry"
        record reload-failed "$one" "$version" "$old" "$why"
    done
    # Some of it may have been loaded; what runs should be what is there.
    [ -z "$switched" ] || { step 'the reload of the old ones' && run sh -c "$reload"; }
    switched=''
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
    kept=0
    for found in $(ls "$base/$one" | sort -rn); do
        case $found in 0-*) continue ;; [1-9]*-*) ;; *) continue ;; esac
        kept=$((kept + 1))
        [ "$kept" -le 3 ] || [ "$found" = "$version" ] || [ "$found" = "$old" ] ||
            # Renamed first: a version is there with all its files, or not at all.
            mv -fT "$base/$one/$found" "$work/$one:$found"
    done
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
        else
            ready="$ready $one:$to:$version:"
        fi
        count=$((count - 1))
    done
    read -r last && [ "$last" = end ] || fail input 'the end did not arrive'
    [ -n "$ready" ] || return 0
    trap : HUP INT PIPE TERM
    note $ready || fail switch "$error"
    for entry in $ready; do arm "$entry" || fail switch "$error"; done
    step 'the config test with the old ones'
    if go $ready && run sh -c "$test"; then
        step 'the reload of the old ones'
        run sh -c "$reload" || nothing_runs || record reload - failed - "$output"
        for entry in $ready; do split "$entry" && record put-back "$one" "$old" "$version" ''; done
    else
        why=${error:-$output}
        back $ready
        for entry in $ready; do split "$entry" && record kept "$one" "$old" "$version" "$why"; done
    fi
    rm -f "$base/.switch"
}

main
