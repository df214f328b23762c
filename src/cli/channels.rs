//! `certfleet channels`: how people can be told, and how to set it up.

use super::kinds::Catalogue;
use crate::notify::{Channel, KINDS};

pub(super) const ALL: Catalogue<dyn Channel> = Catalogue {
    kinds: KINDS,
    word: "channel",
    table: ("[alert.ops]", "channel"),
    after: "`certfleet channels NAME` prints its table for certs.toml, and what it needs. Without any table\n\
            alerts go to the journal. Every other way is reached by a program (exec) or a web service (webhook).",
    other: "`certfleet channels` lists them; `exec` or `webhook` reach every other",
};
