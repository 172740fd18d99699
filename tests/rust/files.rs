//! Files that the crate writes itself: whole, checked, or refused.

use std::fs;

use discffusion::checkpoint::TensorFile;
use tch::Tensor;

fn file() -> TensorFile {
    let mut file = TensorFile::default();
    file.tensors.insert("a".into(), Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([2, 2]));
    file.tensors.insert("b".into(), Tensor::from_slice(&[0.5f32]));
    file.metadata.insert("what".into(), "a test".into());
    file
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    file().write(&path).unwrap();
    let read = TensorFile::read(&path).unwrap();
    assert!(read.checked);
    assert_eq!(read.metadata, file().metadata);
    assert_eq!(read.tensors.len(), 2);
    assert_eq!(read.tensors["a"], file().tensors["a"]);
    // Nothing else is left in the folder.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    file().write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        assert!(TensorFile::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut unnoticed = vec![];
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1;
        // A file that lost the key of its checksum is one of somebody else's, and says so.
        if TensorFile::parse(&damaged).is_ok_and(|file| file.checked) {
            unnoticed.push(i);
        }
    }
    assert!(unnoticed.is_empty(), "flipped bytes {unnoticed:?} of {}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    file().write(&path).unwrap();
    let missing = folder.path().join("no such folder").join("x.safetensors");
    assert!(file().write(&missing).is_err());
    assert!(TensorFile::read(&path).unwrap().checked);
}

#[test]
fn threads_that_save_to_one_path_leave_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| file().write(&path).unwrap()));
        }
    });
    assert!(TensorFile::read(&path).unwrap().checked);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
