//! The functions of the C library that change files, each with a recording: the linker takes these in place of the
//! library's own, in the whole program. They do the same by the system call, but for syncs of a recorded folder, which
//! are only recorded.

use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::slice;

use libc::{mode_t, off_t, size_t, ssize_t};

use crate::recording::{FileNumber, Operation, Recorded, recorded};

/// Reads a path of a caller.
unsafe fn path_of<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: callers of the C library pass a text that ends in a zero byte and outlives the call.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}

/// Returns the place of a path's recording.
fn of_path(all: &[Recorded], path: &Path) -> Option<usize> {
    all.iter().position(|recorded| path.starts_with(&recorded.folder))
}

/// Returns mode, device and inode of an open file.
fn met(file: c_int) -> Option<libc::stat> {
    let mut met = MaybeUninit::uninit();
    // SAFETY: the system writes the value when it returns 0.
    unsafe { (libc::fstat(file, met.as_mut_ptr()) == 0).then(|| met.assume_init()) }
}

fn inode(met: &libc::stat) -> (u64, u64) {
    (met.st_dev, met.st_ino)
}

/// Returns the place of an open file's recording, and the file's number there.
fn of_file(all: &[Recorded], file: c_int) -> Option<(usize, FileNumber, libc::stat)> {
    let met = met(file)?;
    all.iter().enumerate().find_map(|(place, recorded)| recorded.number(inode(&met)).map(|number| (place, number, met)))
}

/// Returns the path of an open folder.
fn folder_of(file: c_int) -> Option<PathBuf> {
    let is_folder = met(file)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    is_folder.then(|| std::fs::read_link(format!("/proc/self/fd/{file}")).ok())?
}

/// Does a change, and records it if it succeeded.
fn changed(path: &Path, call: impl FnOnce() -> c_long, operation: impl FnOnce() -> Operation) -> c_int {
    let Some(mut all) = recorded() else { return call() as c_int };
    let done = call();
    if done == 0
        && let Some(place) = of_path(&all, path)
    {
        all[place].operations.push(operation());
    }
    done as c_int
}

unsafe fn opened(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's arguments go to the system as they are.
    let call = || unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int };
    let Some(mut all) = recorded() else { return call() };
    // SAFETY: as above.
    let path = unsafe { path_of(path) };
    let is_new = flags & libc::O_CREAT != 0 && std::fs::symlink_metadata(path).is_err();
    let Some(place) = of_path(&all, path) else {
        // A pipe may wait for a reader, who may wait for the recordings.
        drop(all);
        let file = call();
        // It may have the inode of a recorded file that is gone.
        if is_new
            && file >= 0
            && let (Some(mut all), Some(met)) = (recorded(), met(file))
        {
            all.iter_mut().for_each(|recorded| recorded.forget(inode(&met)));
        }
        return file;
    };
    let file = call();
    if file < 0 {
        return file;
    }
    if let Some(met) = met(file) {
        if is_new {
            all.iter_mut().for_each(|recorded| recorded.forget(inode(&met)));
        }
        let recorded = &mut all[place];
        if is_new {
            recorded.make(path, inode(&met));
        } else if let Some(number) = recorded.number(inode(&met)).filter(|_| flags & libc::O_TRUNC != 0) {
            recorded.operations.push(Operation::Resize(number, 0));
        }
    }
    file
}

/// Writes at an offset, or at the file's own position.
unsafe fn written(file: c_int, bytes: *const c_void, count: size_t, offset: Option<off_t>) -> ssize_t {
    // SAFETY: the caller's arguments go to the system as they are.
    let call = || unsafe {
        match offset {
            Some(offset) => libc::syscall(libc::SYS_pwrite64, file, bytes, count, offset),
            None => libc::syscall(libc::SYS_write, file, bytes, count),
        }
    };
    let Some(mut all) = recorded() else { return call() as ssize_t };
    let Some((place, number, met)) = of_file(&all, file) else {
        // A pipe may wait for a reader, who may wait for the recordings.
        drop(all);
        return call() as ssize_t;
    };
    // SAFETY: these calls read no memory of the caller.
    let own = || unsafe {
        match libc::fcntl(file, libc::F_GETFL) & libc::O_APPEND {
            0 => libc::lseek(file, 0, libc::SEEK_CUR),
            _ => met.st_size,
        }
    };
    let at = offset.unwrap_or_else(own);
    let done = call();
    if done > 0 {
        // SAFETY: the system has read so many bytes there.
        let bytes = unsafe { slice::from_raw_parts(bytes.cast::<u8>(), done as usize) };
        all[place].operations.push(Operation::Write(number, at as u64, bytes.to_vec()));
    }
    done as ssize_t
}

fn resized(file: c_int, size: off_t) -> c_int {
    // SAFETY: the call reads no memory.
    let call = || unsafe { libc::syscall(libc::SYS_ftruncate, file, size) as c_int };
    let Some(mut all) = recorded() else { return call() };
    let done = call();
    if done == 0
        && let Some((place, number, _)) = of_file(&all, file)
    {
        all[place].operations.push(Operation::Resize(number, size as u64));
    }
    done
}

fn synced(file: c_int, number_of_call: c_long) -> c_int {
    if let Some(mut all) = recorded() {
        if let Some((place, number, _)) = of_file(&all, file) {
            all[place].operations.push(Operation::Sync(number));
            return 0;
        }
        if let Some(folder) = folder_of(file)
            && let Some(place) = of_path(&all, &folder)
        {
            all[place].operations.push(Operation::SyncFolder(folder));
            return 0;
        }
    }
    // SAFETY: the call reads no memory.
    unsafe { libc::syscall(number_of_call, file) as c_int }
}

/// The mode is an optional argument in C. It is passed like any other on the systems that this file is for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller keeps to the rules of the function.
    unsafe { opened(path, flags, mode) }
}

/// As `open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller keeps to the rules of the function.
    unsafe { opened(path, flags, mode) }
}

/// Writes at the file's position.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller keeps to the rules of the function.
    unsafe { written(file, bytes, count, None) }
}

/// Writes at an offset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(file: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller keeps to the rules of the function.
    unsafe { written(file, bytes, count, Some(offset)) }
}

/// As `pwrite`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(file: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller keeps to the rules of the function.
    unsafe { written(file, bytes, count, Some(offset)) }
}

/// Sets the size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(file: c_int, size: off_t) -> c_int {
    resized(file, size)
}

/// As `ftruncate`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(file: c_int, size: off_t) -> c_int {
    resized(file, size)
}

/// Syncs a file or a folder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    synced(file, libc::SYS_fsync)
}

/// As `fsync`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    synced(file, libc::SYS_fdatasync)
}

/// Gives a file another name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller keeps to the rules of the function.
    let (old, new) = unsafe { (path_of(from), path_of(to)) };
    let cwd = libc::AT_FDCWD;
    // SAFETY: the caller's arguments go to the system as they are.
    let call = || unsafe { libc::syscall(libc::SYS_renameat2, cwd, from, cwd, to, 0_u32) };
    changed(new, call, || Operation::Rename(old.to_owned(), new.to_owned()))
}

/// Removes a name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller keeps to the rules of the function.
    let gone = unsafe { path_of(path) };
    // SAFETY: the caller's argument goes to the system as it is.
    let call = || unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0_i32) };
    changed(gone, call, || Operation::Remove(gone.to_owned()))
}

/// Makes a folder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller keeps to the rules of the function.
    let made = unsafe { path_of(path) };
    // SAFETY: the caller's argument goes to the system as it is.
    let call = || unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) };
    changed(made, call, || Operation::MakeFolder(made.to_owned()))
}
