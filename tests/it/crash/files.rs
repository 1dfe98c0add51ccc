//! Reads what a file destination writes, line by line as it grows, like any log shipper.

use crate::crash::oracle::Copy;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

/// A folder of `events-*.ndjson`, and how far each file is read.
pub struct Files {
    folder: PathBuf,
    read: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    subject: String,
    xroute: String,
    xdelivery: String,
    xvendorid: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Files {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, read: BTreeMap::new() }
    }

    /// The whole lines that are new since the last call. A torn one at the end is left for a later call: the program
    /// cuts it, or it was still being written.
    pub fn read_new(&mut self) -> Vec<Copy> {
        let mut copies = Vec::new();
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return copies };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        for name in names.into_iter().filter(|name| name.ends_with(".ndjson")) {
            let mut file = File::open(self.folder.join(&name)).unwrap();
            let at = self.read.entry(name).or_insert(0);
            assert!(file.metadata().unwrap().len() >= *at, "whole lines were cut");
            file.seek(SeekFrom::Start(*at)).unwrap();
            let mut text = Vec::new();
            file.read_to_end(&mut text).unwrap();
            text.truncate(memchr::memrchr(b'\n', &text).map_or(0, |end| end + 1));
            *at += text.len() as u64;
            copies.extend(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(copy));
        }
        copies
    }
}

fn copy(line: &[u8]) -> Copy {
    let parsed: Result<Line<'_>, _> = serde_json::from_slice(line);
    let line = parsed.unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(line)));
    Copy {
        id: line.id,
        delivery: line.xdelivery,
        route: line.xroute,
        vendor_id: line.xvendorid,
        subject: line.subject,
        value: line.data.get().as_bytes().to_vec(),
    }
}
