//! What the folder's files promise: whole lines, rotation, a torn tail cut.

use super::{Folder, FolderError, Place, day_of};
use crate::domain::Timestamp;
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
};

const DAY_MS: i64 = 86_400_000;
/// 2024-09-20T23:59:59.999Z
const NOW: Timestamp = Timestamp::from_millis(1_726_876_799_999);

fn files(path: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())).collect()
}

fn map(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_torn_last_line_is_cut_at_every_length() {
    let whole = "{\"a\":1}\n{\"b\":2}\n";
    for cut in 0..=whole.len() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("events-20240920-001.ndjson"), &whole[..cut]).unwrap();
        let mut open = Folder::open(folder.path(), 1_000).unwrap();
        open.write(b"{\"c\":3}\n", NOW).unwrap();
        open.sync().unwrap();
        let kept = whole[..cut].rfind('\n').map_or("", |at| &whole[..=at]);
        let expected = format!("{kept}{{\"c\":3}}\n");
        assert_eq!(files(folder.path()), map(&[("events-20240920-001.ndjson", &expected)]), "{cut}");
    }
}

#[test]
fn a_torn_line_longer_than_a_block_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events-20240920-007.ndjson");
    fs::write(&path, format!("{{}}\n{}", "x".repeat(200_000))).unwrap();
    drop(Folder::open(folder.path(), 1_000).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    fs::write(&path, "x".repeat(65_536)).unwrap();
    drop(Folder::open(folder.path(), 1_000).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn a_new_file_begins_with_the_size_and_with_the_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = Folder::open(folder.path(), 8).unwrap();
    let next_day = Timestamp::from_millis(NOW.as_millis() + 1);
    for (lines, now) in [("1\n2\n", NOW), ("3\n4\n", NOW), ("5\n", NOW), ("far too long\n", NOW), ("6\n", next_day)] {
        open.write(lines.as_bytes(), now).unwrap();
    }
    // A clock that goes back does not.
    open.write(b"7\n", NOW).unwrap();
    open.sync().unwrap();
    let expected = [
        ("events-20240920-001.ndjson", "1\n2\n3\n4\n"),
        ("events-20240920-002.ndjson", "5\n"),
        ("events-20240920-003.ndjson", "far too long\n"),
        ("events-20240921-001.ndjson", "6\n7\n"),
    ];
    assert_eq!(files(folder.path()), map(&expected));
}

#[test]
fn giving_up_takes_back_what_is_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = Folder::open(folder.path(), 1_000).unwrap();
    open.write(b"kept\n", NOW).unwrap();
    open.sync().unwrap();
    open.write(b"not kept\n", NOW).unwrap();
    open.give_up();
    let mut open = Folder::open(folder.path(), 1_000).unwrap();
    open.leave_file();
    open.write(b"later\n", NOW).unwrap();
    let expected = [("events-20240920-001.ndjson", "kept\n"), ("events-20240920-002.ndjson", "later\n")];
    assert_eq!(files(folder.path()), map(&expected));
}

#[test]
fn a_file_that_someone_else_changed_is_noticed_before_the_next_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = Folder::open(folder.path(), 1_000).unwrap();
    let name = open.write(b"1\n", NOW).unwrap();
    let path = folder.path().join(&*name);
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
    assert!(matches!(open.write(b"2\n", NOW), Err(FolderError::Changed(_))));
    drop(open);
    let mut open = Folder::open(folder.path(), 1_000).unwrap();
    open.write(b"2\n", NOW).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(open.write(b"3\n", NOW), Err(FolderError::Changed(_))));
}

#[test]
fn other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["events-20990101-1.ndjson", "events-2099010-001.ndjson", "events-20990101-001.ndjson.gz", "x"] {
        fs::write(folder.path().join(name), "torn").unwrap();
        assert_eq!(Place::parse(name), None, "{name}");
    }
    let mut open = Folder::open(folder.path(), 1_000).unwrap();
    assert_eq!(&*open.write(b"1\n", NOW).unwrap(), "events-20240920-001.ndjson");
    open.probe().unwrap();
    assert_eq!(files(folder.path()).values().filter(|text| *text == "torn").count(), 4);
    assert_eq!(files(folder.path()).len(), 5);
}

#[test]
fn days_are_those_of_utc() {
    assert_eq!(day_of(NOW), 20_240_920);
    assert_eq!(day_of(Timestamp::from_millis(NOW.as_millis() + 1)), 20_240_921);
    assert_eq!(day_of(Timestamp::from_millis(NOW.as_millis() - DAY_MS)), 20_240_919);
    assert_eq!(Place { day: 20_240_920, number: 1_234 }.name(), "events-20240920-1234.ndjson");
    assert_eq!(Place::parse("events-20240920-1234.ndjson"), Some(Place { day: 20_240_920, number: 1_234 }));
}
