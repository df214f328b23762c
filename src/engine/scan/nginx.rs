//! What `nginx -T` says of servers, their names and their certificates. The text is hostile.

use std::collections::BTreeMap;

/// A server block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Server {
    /// As written: may be wildcards, patterns, or `_`.
    pub(super) names: Vec<String>,
    /// Whether it listens with TLS.
    pub(super) tls: bool,
    /// Certificate and key files, absolute; those of the level above where it names none.
    pub(super) pairs: Vec<(String, Option<String>)>,
}

/// The servers of a configuration: its files, as they include each other.
pub(super) fn servers(dump: &str) -> Vec<Server> {
    let files = files(dump);
    let Some((main, _)) = files.first() else { return Vec::new() };
    let base = main.rsplit_once('/').map_or("", |(base, _)| base).to_owned();
    let texts: BTreeMap<&str, Vec<Token>> =
        files.iter().map(|(path, text)| (path.as_str(), tokens(text))).collect();
    let mut reader = Reader { base, files: &texts, servers: Vec::new(), steps: 0 };
    if let Some(tokens) = texts.get(main.as_str()) {
        reader.block(tokens, 0, None, &mut Scope::default(), 0);
    }
    reader.servers
}

/// The files of a dump: `# configuration file PATH:` and what follows.
fn files(dump: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in dump.lines() {
        let header = line.strip_prefix("# configuration file ").and_then(|rest| rest.strip_suffix(':'));
        match (header, files.last_mut()) {
            (Some(path), _) => files.push((path.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    files
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' => found.push(Token::Open),
            '}' => found.push(Token::Close),
            ';' => found.push(Token::End),
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' | '\'' => {
                let mut word = String::new();
                while let Some(next) = chars.next() {
                    match next {
                        '\\' => word.extend(chars.next()),
                        next if next == c => break,
                        next => word.push(next),
                    }
                }
                found.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => {
                let mut word = String::from(c);
                while let Some(&next) = chars.peek() {
                    // `${name}` is part of a word.
                    let variable = next == '{' && word.ends_with('$');
                    if !variable && (next.is_whitespace() || matches!(next, '{' | ';')) {
                        break;
                    }
                    word.push(next);
                    chars.next();
                    if variable {
                        for inner in chars.by_ref() {
                            word.push(inner);
                            if inner == '}' {
                                break;
                            }
                        }
                    }
                }
                found.push(Token::Word(word));
            }
        }
    }
    found
}

/// What certificates are named in a block and above it.
#[derive(Debug, Clone, Default)]
struct Scope {
    certificates: Vec<String>,
    keys: Vec<String>,
}

struct Reader<'a> {
    base: String,
    files: &'a BTreeMap<&'a str, Vec<Token>>,
    servers: Vec<Server>,
    /// What has been read, compared and copied: a hostile text can ask for much more than it has itself.
    steps: usize,
}

impl Reader<'_> {
    /// Reads from `at` to the end of a block; where that is.
    fn block(
        &mut self,
        tokens: &[Token],
        mut at: usize,
        mut server: Option<&mut Server>,
        scope: &mut Scope,
        depth: usize,
    ) -> usize {
        let mut words: Vec<&str> = Vec::new();
        while let Some(token) = tokens.get(at) {
            at += 1;
            if !self.spend(1) {
                return tokens.len();
            }
            match token {
                Token::Word(word) => words.push(word),
                Token::Close => return at,
                Token::End => {
                    self.directive(&words, server.as_deref_mut(), scope, depth);
                    words.clear();
                }
                Token::Open if depth >= DEEPEST => return tokens.len(),
                Token::Open => {
                    if words == ["server"] {
                        let (mut inner, mut own) = (Server::default(), Scope::default());
                        at = self.block(tokens, at, Some(&mut inner), &mut own, depth + 1);
                        inner.pairs = self.pairs(&own);
                        // Filled in below, when all of the level above is known.
                        self.servers.push(inner);
                    } else if server.is_some() {
                        // Nothing in a `location` or an `if` is about certificates.
                        at = self.block(tokens, at, None, &mut Scope::default(), depth + 1);
                    } else {
                        let first = self.servers.len();
                        self.spend(scope.weight());
                        let mut level = scope.clone();
                        at = self.block(tokens, at, None, &mut level, depth + 1);
                        self.spend(self.servers.len() - first);
                        for at in first..self.servers.len() {
                            if self.servers[at].pairs.is_empty() && self.servers[at].tls {
                                self.servers[at].pairs = self.pairs(&level);
                            }
                        }
                    }
                    words.clear();
                }
            }
        }
        at
    }

    fn directive(&mut self, words: &[&str], server: Option<&mut Server>, scope: &mut Scope, depth: usize) {
        match (words, server) {
            (["ssl_certificate", path], _) => self.name(&mut scope.certificates, path),
            (["ssl_certificate_key", path], _) => self.name(&mut scope.keys, path),
            (["include", pattern], server) if depth < DEEPEST => {
                let pattern = self.absolute(pattern);
                let files = self.files;
                let included: Vec<&Vec<Token>> = match pattern.contains(['*', '?']) {
                    false => files.get(pattern.as_str()).into_iter().collect(),
                    true if !self.spend(files.len()) => Vec::new(),
                    true => files.iter().filter(|(path, _)| fits(&pattern, path)).map(|(_, t)| t).collect(),
                };
                let mut server = server;
                for tokens in included {
                    self.block(tokens, 0, server.as_deref_mut(), scope, depth + 1);
                }
            }
            (["server_name", names @ ..], Some(server)) => {
                server.names.extend(names.iter().map(|name| (*name).to_owned()));
            }
            (["listen", _, options @ ..], Some(server)) => {
                server.tls |= options.iter().any(|option| matches!(*option, "ssl" | "quic"));
            }
            (["ssl", "on"], Some(server)) => server.tls = true,
            _ => {}
        }
    }

    /// A file named at a level. nginx takes no more than one for each type of key.
    fn name(&self, files: &mut Vec<String>, path: &str) {
        if files.len() < PAIRS && path.len() < LONGEST {
            files.push(self.absolute(path));
        }
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.base) }
    }

    fn pairs(&mut self, scope: &Scope) -> Vec<(String, Option<String>)> {
        if !self.spend(scope.weight()) {
            return Vec::new();
        }
        let keys = scope.keys.iter().cloned().map(Some).chain(std::iter::repeat(None));
        scope.certificates.iter().cloned().zip(keys).collect()
    }

    /// Whether there is as much left as this takes.
    fn spend(&mut self, steps: usize) -> bool {
        self.steps = self.steps.saturating_add(steps);
        self.steps <= STEPS
    }
}

impl Scope {
    /// What a copy takes, in steps.
    fn weight(&self) -> usize {
        const BYTES: usize = 32;
        self.certificates.iter().chain(&self.keys).map(|path| 1 + path.len() / BYTES).sum()
    }
}

/// Whether a path fits a pattern of the shell, as far as `*` and `?` go.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path) = (pattern.as_bytes(), path.as_bytes());
    let (mut p, mut s) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while s < path.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, s));
                p += 1;
            }
            Some(c) if *c == path[s] || (*c == b'?' && path[s] != b'/') => {
                p += 1;
                s += 1;
            }
            _ => match star {
                Some((at, from)) if path[from] != b'/' => {
                    star = Some((at, from + 1));
                    (p, s) = (at + 1, from + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// A configuration of a thousand sites has a hundred thousand; includes may multiply them.
const STEPS: usize = 4_000_000;
const DEEPEST: usize = 20;
/// Certificates of one level, and the length of a path.
const PAIRS: usize = 16;
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_across_files_with_the_certificates_of_the_level_above() {
        let dump = "# configuration file /etc/nginx/nginx.conf:\n\
            http { ssl_certificate /d/c.pem; ssl_certificate_key d/k.pem; # comment; server {\n\
            include sites/*.conf; upstream x { server 10.0.0.1; } }\n\
            # configuration file /etc/nginx/sites/a.conf:\n\
            server { listen 443 ssl; server_name a.test \"b.test\"; location / { return 301 ${x}; } }\n\
            server { listen 443 quic; server_name c.test; include snippets/tls.conf; }\n\
            server { listen 80; server_name _; }\n\
            # configuration file /etc/nginx/snippets/tls.conf:\n\
            ssl_certificate \"/x/rsa.pem\"; ssl_certificate_key /x/rsa.key;\n\
            ssl_certificate /x/ec.pem; ssl_certificate_key /x/ec.key;\n";
        let found = servers(dump);
        let pair = |a: &str, b: &str| (a.to_owned(), Some(b.to_owned()));
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0].names, ["a.test", "b.test"]);
        assert_eq!(found[0].pairs, [pair("/d/c.pem", "/etc/nginx/d/k.pem")]);
        assert_eq!(found[1].pairs, [pair("/x/rsa.pem", "/x/rsa.key"), pair("/x/ec.pem", "/x/ec.key")]);
        assert!(!found[2].tls && found[2].pairs.is_empty());
    }

    #[test]
    fn nonsense_ends_and_finds_nothing() {
        for text in
            ["", "{", "}}}}", "# configuration file /a:\nserver {", "# configuration file /a:\n\"\\", "a{"]
        {
            assert!(servers(text).iter().all(|server| server.names.is_empty()), "{text}");
        }
        let deep = format!("# configuration file /a:\n{}", "x {".repeat(100_000));
        assert!(servers(&deep).is_empty());
        let itself = "# configuration file /a:\ninclude /a; include /a; include /a;";
        assert!(servers(itself).is_empty());
    }

    #[test]
    fn what_multiplies_itself_ends() {
        let path = format!("/{}", "x".repeat(4000));
        let many = format!(
            "# configuration file /a:\n{}{}",
            format!("ssl_certificate {path}; ssl_certificate_key {path};").repeat(100),
            "server { listen 1 ssl; } x { }".repeat(100_000)
        );
        let copied = |servers: &[Server]| -> usize {
            let pairs = servers.iter().flat_map(|server| &server.pairs);
            pairs.map(|(path, key)| path.len() + key.as_deref().map_or(0, str::len)).sum()
        };
        assert!(copied(&servers(&many)) < 40 * STEPS);
        let within = format!("# configuration file /a:\nhttp {{ {} }}", &many[many.find("ssl_").unwrap()..]);
        assert!(copied(&servers(&within)) < 40 * STEPS);
        let files: String = (0..50_000).map(|n| format!("# configuration file /{n}:\n")).collect();
        let includes = "include /*b;".repeat(100_000);
        assert!(servers(&format!("# configuration file /a:\n{includes}\n{files}")).is_empty());
    }

    #[test]
    fn patterns_stay_within_a_folder() {
        assert!(fits("/e/*.conf", "/e/a.conf") && fits("/e/*/x?", "/e/a/x1") && fits("/e/a", "/e/a"));
        assert!(!fits("/e/*.conf", "/e/b/a.conf") && !fits("/e/*", "/f/a") && !fits("/e/a", "/e/ab"));
    }
}
