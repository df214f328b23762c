//! `certfleet providers`: what can write challenge records, and how to set it up.

use super::kinds::Catalogue;
use crate::dns::{KINDS, Provider};

pub(super) const ALL: Catalogue<dyn Provider> = Catalogue {
    kinds: KINDS,
    word: "provider",
    table: ("[dns.main]", "provider"),
    after: "`certfleet providers NAME` prints its table for certs.toml, and the rights that it needs.\n\
            Any other provider is reached by a program (exec), by a web service (httpreq), or by one CNAME\n\
            record to a zone at one of these; certfleet follows it by itself.",
    other: "`certfleet providers` lists them; `exec`, `httpreq` or a CNAME record reach every other",
};
