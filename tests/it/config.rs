//! certs.toml: the reference at the top of the repository, and every kind of mistake. What holds which:
//!
//! - domains (empty, dots, hyphens, lengths, ports, URLs, addresses, control and direction characters, other scripts,
//!   A- and U-labels, emoji): `wrong::domains_that_cannot_be_are_refused`,
//!   `corpus::domains_that_are_numbers_lists_or_in_disguise`, `corpus::characters_that_look_like_others`; wildcards:
//!   the first two, and `wrong::probes_need_names_that_are_covered`
//! - counts: `wrong::a_hundred_domains_are_the_most`, `wrong::what_a_person_should_look_at_is_a_warning` (25),
//!   `corpus::large_fleets_and_names_that_only_look_alike_are_no_mistakes`
//! - names and paths (`..`, `-rf`, `$(id)`, `%s`, 4096 bytes, letters of another case, system directories, one inside
//!   another): `wrong::names_of_certificates_are_apart`, `corpus::paths_hosts_and_people_that_are_traps`,
//!   `corpus::directories_that_are_long_end_in_a_slash_or_lie_in_each_other`, `corpus::a_store_is_a_folder_of_its_own`
//! - hosts, ports, pinned keys: `wrong::a_host_is_one_door_and_nothing_to_run`, `wrong::values_out_of_range_are_refused`,
//!   `corpus::paths_hosts_and_people_that_are_traps`; this machine: `local`
//! - TOML (duplicates, clashes, BOM, CRLF, other encodings, depth, length, types, numbers, includes, variables):
//!   `hostile`, `corpus::every_kind_of_value_where_a_string_is_wanted`, `corpus::numbers_that_are_too_large_or_none`,
//!   `corpus::tables_that_clash`, `corpus::depth_and_length_are_bounded`, `wrong::unknown_keys_and_tables_are_named`
//! - secrets in the file: `wrong::a_secret_in_the_file_is_refused_and_not_repeated`
//! - policies (keys, renewal, directories of CAs, contacts): `wrong::issuer_and_account_must_be_clear`,
//!   `wrong::values_out_of_range_are_refused`, `corpus::paths_hosts_and_people_that_are_traps`; providers and channels:
//!   `providers`, `alert`
//! - the file itself (absent, a folder, a pipe, huge, half, writable by all):
//!   `hostile::a_file_that_is_none_is_refused_with_a_remedy`

mod alert;
mod corpus;
mod daemon;
mod hostile;
mod local;
mod providers;
mod reference;
mod wrong;

use std::path::Path;

use certfleet::config::{Config, Mistakes, parse};

/// A file without mistakes, to be spoilt.
const GOOD: &str = r#"[issuer.letsencrypt]
contact = ["ops@example.org"]
accept-terms = true

[dns.main]
provider = "rfc2136"
server = "ns1.example.org:53"
key-name = "certfleet"
secret = { file = "secrets/tsig" }

[host.web1]
[host.web2]

[group]
web = ["web1", "web2"]

[[certificate]]
name = "shop"
domains = ["www.example.org", "example.org"]
hosts = ["web"]
"#;

fn read(text: &str) -> Result<Config, Mistakes> {
    parse(text, Path::new("/etc/certfleet/certs.toml"))
}
