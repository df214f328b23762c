//! Answers of all kinds.

use proptest::prelude::*;

use super::{Malformed, Record, records, shown, telling};

fn read(text: &str) -> Result<Vec<Record>, Malformed> {
    records(text.as_bytes(), b"N end", shown)
}

#[test]
fn records_are_counted_so_texts_may_say_anything() {
    let text = "broken a.org 1-ab - 12\nN end\nb c d\n\nswitched b.org 2-cd 1-ab 0\n\nN end\n";
    let records = read(text).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].text, "N end b c d");
    assert_eq!((records[1].word.as_str(), records[1].old.as_str()), ("switched", "1-ab"));
    assert_eq!(read("a b c d 99\nshort\nN end\n"), Err(Malformed::Text));
    assert_eq!(
        read("a b c d 99999999999999999999999\n\nN end\n"),
        Err(Malformed::Record("a b c d 99999999999999999999999".into()))
    );
    assert_eq!(read("nonsense\nN end\n"), Err(Malformed::Record("nonsense".into())));
    assert_eq!(read(""), Err(Malformed::Text));
}

#[test]
fn of_a_long_complaint_the_fatal_line_is_told() {
    let text = "nginx: [warn] conflicting name\nnginx: [emerg] key values mismatch\nnginx: test failed";
    assert_eq!(telling(text), "nginx: [emerg] key values mismatch");
    assert_eq!(telling("no such word"), "no such word");
}

proptest! {
    #[test]
    fn no_answer_makes_us_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = records(&bytes, b"N end", shown);
    }
}
