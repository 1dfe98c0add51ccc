//! The ids of one sealed segment in a file: a small filter in memory, the sorted pairs on disk.
//!
//! ```text
//! magic · version · checksum of all up to the pairs · first event · end · closed at · count · filter · pairs
//! ```
//! All numbers are little-endian. A pair is 16 bytes; pairs are sorted, so that a lookup is a binary search by `pread`.
//! A flipped bit among the pairs can only hide an id (its re-send is stored again), never invent one that matters:
//! both hashes of a push would have to match.

use crate::{
    domain::{HashKeys, Offset, Timestamp},
    journal::ids::{IdPair, Known},
};
use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::Path,
};
use xorf::{BinaryFuse16, Filter};

const MAGIC: u64 = u64::from_le_bytes(*b"laigu-id");
const VERSION: u64 = 1;
const PAIR_BYTES: u64 = 16;
/// Fewer ids than that are searched without a filter.
const FILTERED_MIN: usize = 1_024;
/// More than a filter of a segment of 1 GiB ever has: a damaged length must not ask for all memory.
const FINGERPRINTS_MAX: u64 = 1 << 28;

/// What a file says about its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdsHeader {
    /// The segment's first event.
    pub first_event: Offset,
    /// The first event after it.
    pub end_event: Offset,
    /// When it was closed: no id in it is newer.
    pub closed_at: Timestamp,
}

/// A file of sealed ids, open for lookups.
#[derive(Debug)]
pub struct IdsFile {
    /// What it says about its segment.
    pub header: IdsHeader,
    file: File,
    /// Where the pairs begin.
    start: u64,
    count: u64,
    filter: Option<BinaryFuse16>,
}

/// Writes a file's content; not synced. The pairs are sorted and free of repetitions afterwards.
///
/// # Errors
/// When it cannot be written.
pub fn write(file: &mut File, keys: &HashKeys, header: IdsHeader, pairs: &mut Vec<IdPair>) -> io::Result<()> {
    pairs.sort_unstable();
    pairs.dedup();
    let filter = build_filter(pairs);
    let mut head = Vec::new();
    let mut put = |number: u64| head.extend_from_slice(&number.to_le_bytes());
    put(header.first_event);
    put(header.end_event);
    put(header.closed_at.as_millis().cast_unsigned());
    put(pairs.len() as u64);
    match &filter {
        None => put(0),
        Some(filter) => {
            put(filter.fingerprints.len() as u64);
            put(filter.descriptor.seed);
            put(u64::from(filter.descriptor.segment_length));
            put(u64::from(filter.descriptor.segment_length_mask));
            put(u64::from(filter.descriptor.segment_count_length));
            head.extend(filter.fingerprints.iter().flat_map(|print| print.to_le_bytes()));
        }
    }
    let mut out = io::BufWriter::with_capacity(1 << 18, file);
    for number in [MAGIC, VERSION, keys.body(&head)] {
        out.write_all(&number.to_le_bytes())?;
    }
    out.write_all(&head)?;
    for pair in pairs {
        out.write_all(&pair.id_hash.to_le_bytes())?;
        out.write_all(&pair.body_hash.to_le_bytes())?;
    }
    out.flush()
}

/// A filter over the first halves, or none when there are few.
fn build_filter(pairs: &[IdPair]) -> Option<BinaryFuse16> {
    let mut ids: Vec<u64> = pairs.iter().map(|pair| pair.id_hash).collect();
    ids.dedup();
    // It fails only by very bad luck, and is not needed for the answer.
    if ids.len() < FILTERED_MIN { None } else { BinaryFuse16::try_from(&ids).ok() }
}

impl IdsFile {
    /// Opens a file and loads its filter. `None` when it is damaged, or of another version.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path, keys: &HashKeys) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        match Self::load(&mut file, keys) {
            Ok(Some((header, count, filter))) => {
                let start = file.stream_position()?;
                let whole = file.metadata()?.len() == start + count * PAIR_BYTES;
                Ok(whole.then_some(Self { header, file, start, count, filter }))
            }
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn load(file: &mut File, keys: &HashKeys) -> io::Result<Option<(IdsHeader, u64, Option<BinaryFuse16>)>> {
        let mut fixed = [0; 64];
        file.read_exact(&mut fixed)?;
        let (numbers, _) = fixed.as_chunks::<8>();
        let [magic, version, checksum, first_event, end_event, closed_at, count, prints] =
            <[[u8; 8]; 8]>::try_from(numbers).unwrap_or_default().map(u64::from_le_bytes);
        if magic != MAGIC || version != VERSION || prints > FINGERPRINTS_MAX || count > FINGERPRINTS_MAX {
            return Ok(None);
        }
        let rest = if prints == 0 { 0 } else { 32 + prints * 2 };
        let (_, head) = fixed.split_at(24);
        let mut head = head.to_vec();
        file.take(rest).read_to_end(&mut head)?;
        if head.len() as u64 != 40 + rest || keys.body(&head) != checksum {
            return Ok(None);
        }
        let closed_at = Timestamp::from_millis(closed_at.cast_signed());
        let header = IdsHeader { first_event, end_event, closed_at };
        Ok(Some((header, count, read_filter(head.get(40..).unwrap_or_default()))))
    }

    /// Looks an id up.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn find(&self, id_hash: u64, body_hash: u64) -> io::Result<Known> {
        if self.filter.as_ref().is_some_and(|filter| !filter.contains(&id_hash)) {
            return Ok(Known::New);
        }
        let wanted = IdPair { id_hash, body_hash };
        let (mut low, mut high, mut known) = (0, self.count, Known::New);
        while low < high {
            let middle = low + (high - low) / 2;
            let pair = self.pair(middle)?;
            if pair == wanted {
                return Ok(Known::Duplicate);
            }
            // All pairs of an id lie side by side: a search for one of them passes another, if there is one.
            if pair.id_hash == id_hash {
                known = Known::Conflict;
            }
            if pair < wanted { low = middle + 1 } else { high = middle }
        }
        Ok(known)
    }

    /// Bytes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.filter.as_ref().map_or(0, |filter| filter.fingerprints.len() * 2)
    }

    /// How many ids it has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn pair(&self, index: u64) -> io::Result<IdPair> {
        let mut bytes = [0; 16];
        self.file.read_exact_at(&mut bytes, self.start + index * PAIR_BYTES)?;
        let (halves, _) = bytes.as_chunks::<8>();
        let [id_hash, body_hash] = <[[u8; 8]; 2]>::try_from(halves).unwrap_or_default().map(u64::from_le_bytes);
        Ok(IdPair { id_hash, body_hash })
    }
}

/// A filter from its bytes; they are checked already.
fn read_filter(bytes: &[u8]) -> Option<BinaryFuse16> {
    let (fixed, prints) = bytes.split_at_checked(32)?;
    let (numbers, _) = fixed.as_chunks::<8>();
    let [seed, length, mask, count] = <[[u8; 8]; 4]>::try_from(numbers).ok()?.map(u64::from_le_bytes);
    let half = |number: u64| u32::try_from(number).ok();
    // The crate keeps the type of `descriptor` to itself: a small filter is made and filled with what was stored.
    let mut filter = BinaryFuse16::try_from([1, 2, 3, 4].as_slice()).ok()?;
    filter.descriptor.seed = seed;
    filter.descriptor.segment_length = half(length)?;
    filter.descriptor.segment_length_mask = half(mask)?;
    filter.descriptor.segment_count_length = half(count)?;
    let (prints, _) = prints.as_chunks::<2>();
    filter.fingerprints = prints.iter().map(|print| u16::from_le_bytes(*print)).collect();
    Some(filter)
}

#[cfg(test)]
mod tests {
    use super::{IdsFile, IdsHeader, write};
    use crate::{
        domain::Timestamp,
        journal::{
            ids::{IdPair, Known},
            samples::KEYS,
        },
    };
    use std::{fs, fs::File};

    const HEADER: IdsHeader = IdsHeader { first_event: 7, end_event: 107, closed_at: Timestamp::from_millis(1_000) };

    fn hash(number: u64) -> u64 {
        KEYS.body(&number.to_le_bytes())
    }

    #[test]
    fn every_id_is_found_with_or_without_a_filter() {
        let place = tempfile::tempdir().unwrap();
        for count in [0, 1, 2, 1_023, 1_024, 20_000] {
            let path = place.path().join(count.to_string());
            let mut pairs: Vec<_> =
                (0..count).map(|n| IdPair { id_hash: hash(n), body_hash: hash(n + 1_000_000) }).collect();
            // An id with two bodies.
            pairs.extend(pairs.first().map(|pair| IdPair { body_hash: 5, ..*pair }));
            write(&mut File::create(&path).unwrap(), &KEYS, HEADER, &mut pairs.clone()).unwrap();
            let file = IdsFile::open(&path, &KEYS).unwrap().unwrap();
            assert_eq!(file.header, HEADER);
            assert!(count < 1_024 || file.memory_bytes() as u64 <= count * 7 / 2, "{}", file.memory_bytes());
            for pair in &pairs {
                assert_eq!(file.find(pair.id_hash, pair.body_hash).unwrap(), Known::Duplicate);
                assert_eq!(file.find(pair.id_hash, 6).unwrap(), Known::Conflict);
                assert_eq!(file.find(pair.id_hash ^ 1, pair.body_hash).unwrap(), Known::New);
            }
        }
    }

    #[test]
    fn a_damaged_head_or_a_cut_file_is_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ids");
        let mut pairs = (0..3).map(|n| IdPair { id_hash: hash(n), body_hash: n }).collect();
        write(&mut File::create(&path).unwrap(), &KEYS, HEADER, &mut pairs).unwrap();
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(IdsFile::open(&path, &KEYS).unwrap().is_none(), "cut at {end}");
        }
        for at in 0..64 {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            fs::write(&path, &flipped).unwrap();
            assert!(IdsFile::open(&path, &KEYS).unwrap().is_none(), "flipped at {at}");
        }
    }
}
