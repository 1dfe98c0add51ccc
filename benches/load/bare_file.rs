//! A bare file: what writing lines and syncing them costs alone, at the best of a few sizes of batch.

use crate::{measure::Measured, options::Options};
use std::{fs::OpenOptions, io::Write, path::Path, time::Instant};

/// Lines that share a sync; the best one counts.
const WINDOWS: [usize; 4] = [64, 256, 1024, 4096];
/// What a line of ours has beside the body.
const MARKS_BYTES: usize = 560;
/// A new file after so many bytes, as the program makes one.
const FILE_BYTES_MAX: u64 = 100 << 20;

/// The best rate of lines as long as ours.
pub fn measure(folder: &Path, options: &Options) -> anyhow::Result<Measured> {
    let line = [vec![b'x'; options.body_bytes + MARKS_BYTES - 1], vec![b'\n']].concat();
    let each = options.duration / 4;
    let mut best = (0.0, 0);
    for window in WINDOWS {
        let open = || OpenOptions::new().append(true).create(true).open(folder.join("lines"));
        let (mut file, mut bytes, mut lines) = (open()?, 0, 0_u32);
        let (mut batch, begin) = (Vec::new(), Instant::now());
        while begin.elapsed() < each {
            batch.clear();
            for _ in 0..window {
                batch.extend_from_slice(&line);
                lines += 1;
            }
            file.write_all(&batch)?;
            file.sync_data()?;
            bytes += batch.len() as u64;
            if bytes > FILE_BYTES_MAX {
                std::fs::remove_file(folder.join("lines"))?;
                (file, bytes) = (open()?, 0);
            }
        }
        let rate = f64::from(lines) / begin.elapsed().as_secs_f64();
        if rate > best.0 {
            best = (rate, window);
        }
    }
    Ok(Measured { per_second: best.0, note: format!("best batch {}", best.1), ..Measured::default() })
}
