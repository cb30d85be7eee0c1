//! A SQLite VFS over the system's which tells a disk what was written and what was synced, as the system's own would:
//! the folder of a new journal or WAL is synced with its first sync. The only unsafe code of the tests.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem::size_of,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_DELETE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_SUPER_JOURNAL,
    SQLITE_OPEN_WAL, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs,
    sqlite3_vfs_find, sqlite3_vfs_register,
};

use super::disk::{Disk, FileNumber};

/// A VFS and what it stands on; lives as long as the process, as SQLite wants it.
struct Vfs {
    vfs: sqlite3_vfs,
    system: *mut sqlite3_vfs,
    disk: Arc<Disk>,
    _name: CString,
}

/// An open file: SQLite's header, then ours, then the system's own file behind it.
#[repr(C)]
struct File {
    header: sqlite3_file,
    known: *mut Known,
}

/// What we know of an open file; temporary ones have no number.
struct Known {
    disk: Arc<Disk>,
    path: Option<PathBuf>,
    number: Option<FileNumber>,
    sync_folder: bool,
}

/// Registers a VFS on `disk` and returns its name.
pub(crate) fn register(disk: Arc<Disk>) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let text = format!("unplug-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let name = CString::new(text.clone()).expect("has no zero");
    // SAFETY: a null name asks for the default VFS, which lives as long as the process.
    let system = unsafe { sqlite3_vfs_find(ptr::null()) };
    assert!(!system.is_null(), "there is a default VFS");
    // SAFETY: `system` is valid and its struct is plain data of function pointers, which may be copied.
    let mut vfs = unsafe { ptr::read(system) };
    vfs.szOsFile += c_int::try_from(size_of::<File>()).expect("is small");
    vfs.pNext = ptr::null_mut();
    vfs.zName = name.as_ptr();
    vfs.xOpen = Some(open);
    vfs.xDelete = Some(delete);
    vfs.xAccess = Some(access);
    vfs.xFullPathname = Some(full_pathname);
    let ours = Box::leak(Box::new(Vfs {
        vfs,
        system,
        disk,
        _name: name,
    }));
    ours.vfs.pAppData = ptr::from_mut(ours).cast();
    // SAFETY: the struct was leaked, so that it outlives every connection.
    let registered = unsafe { sqlite3_vfs_register(&raw mut ours.vfs, 0) };
    assert_eq!(registered, SQLITE_OK);
    text
}

/// Ours of a VFS that SQLite hands back.
///
/// # Safety
/// `vfs` must be one that [`register`] made.
unsafe fn ours<'a>(vfs: *mut sqlite3_vfs) -> &'a Vfs {
    // SAFETY: `register` put a leaked `Vfs` there.
    unsafe { &*(*vfs).pAppData.cast::<Vfs>() }
}

/// The system's file behind ours.
///
/// # Safety
/// `file` must be one that SQLite allocated for [`open`].
unsafe fn inner(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` asked for room for both.
    unsafe { file.byte_add(size_of::<File>()) }
}

/// What we know of a file.
///
/// # Safety
/// `file` must have been opened by [`open`] and not closed.
unsafe fn known<'a>(file: *mut sqlite3_file) -> &'a mut Known {
    // SAFETY: `open` put a leaked box there, which only `close` takes; SQLite uses a file from one thread at a time.
    unsafe { &mut *(*file.cast::<File>()).known }
}

/// # Safety
/// `name` must be null or a C string.
unsafe fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: as above.
    let name = unsafe { CStr::from_ptr(name) };
    Some(Path::new(name.to_str().expect("tests use plain paths")).to_owned())
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls with the VFS it was given, room for both files, and a name that is null or a C string.
    unsafe {
        let ours = ours(vfs);
        let path = path_of(name);
        let existed = path.as_ref().is_some_and(|path| path.exists());
        (*file).pMethods = ptr::null();
        let system_open = (*ours.system).xOpen.expect("a VFS opens");
        let result = system_open(ours.system, name, inner(file), flags, out);
        if result != SQLITE_OK {
            return result;
        }
        let journals = SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL;
        let known = Known {
            number: path.as_ref().map(|path| ours.disk.file(path, existed)),
            disk: Arc::clone(&ours.disk),
            sync_folder: !existed && flags & journals != 0,
            path,
        };
        (*file.cast::<File>()).known = Box::into_raw(Box::new(known));
        (*file).pMethods = &METHODS;
        SQLITE_OK
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as for `open`.
    unsafe {
        let ours = ours(vfs);
        if ours.disk.power().is_err() {
            return SQLITE_IOERR_DELETE;
        }
        let system_delete = (*ours.system).xDelete.expect("a VFS deletes");
        let result = system_delete(ours.system, name, sync);
        let path = path_of(name);
        if let (SQLITE_OK, Some(path)) = (result, path) {
            ours.disk.remove(&path);
            if let (true, Some(folder)) = (sync != 0, path.parent()) {
                ours.disk.sync_folder(folder);
            }
        }
        result
    }
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as for `open`; the system's VFS gets itself, since its methods look at their own struct.
    unsafe {
        let system = ours(vfs).system;
        (*system).xAccess.expect("a VFS looks")(system, name, flags, out)
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: as for `access`.
    unsafe {
        let system = ours(vfs).system;
        (*system).xFullPathname.expect("a VFS names")(system, name, size, out)
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes each file once; the box was made by `open`.
    unsafe {
        drop(Box::from_raw((*file.cast::<File>()).known));
        let inner = inner(file);
        (*(*inner).pMethods).xClose.expect("files close")(inner)
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite hands an open file and `count` readable bytes.
    unsafe {
        let known = known(file);
        if known.disk.power().is_err() {
            return SQLITE_IOERR_WRITE;
        }
        if known.disk.is_full() {
            return SQLITE_FULL;
        }
        let inner = inner(file);
        let result =
            (*(*inner).pMethods).xWrite.expect("files are written")(inner, bytes, count, at);
        if let (SQLITE_OK, Some(number)) = (result, known.number) {
            let length = usize::try_from(count).expect("is not negative");
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length);
            let at = usize::try_from(at).expect("is not negative");
            known.disk.write(number, at, bytes);
        }
        result
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: SQLite hands an open file.
    unsafe {
        let known = known(file);
        if known.disk.power().is_err() {
            return SQLITE_IOERR_TRUNCATE;
        }
        let inner = inner(file);
        let result = (*(*inner).pMethods).xTruncate.expect("files are cut")(inner, size);
        if let (SQLITE_OK, Some(number)) = (result, known.number) {
            known
                .disk
                .truncate(number, usize::try_from(size).expect("is not negative"));
        }
        result
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite hands an open file.
    unsafe {
        let known = known(file);
        let inner = inner(file);
        let result = (*(*inner).pMethods).xSync.expect("files are synced")(inner, flags);
        if result != SQLITE_OK || known.disk.power().is_err() {
            return SQLITE_IOERR_FSYNC;
        }
        if let Some(number) = known.number {
            known.disk.sync(number);
        }
        let folder = known.path.as_ref().and_then(|path| path.parent());
        if let (true, Some(folder)) = (known.sync_folder, folder) {
            known.disk.sync_folder(folder);
            known.sync_folder = false;
        }
        // A sync during which the power went was not acknowledged.
        match known.disk.power() {
            Ok(()) => SQLITE_OK,
            Err(_) => SQLITE_IOERR_FSYNC,
        }
    }
}

/// Methods that only pass on.
macro_rules! pass_on {
    ($($name:ident, $method:ident, ($($arg:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {$(
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $arg: $kind)*) $(-> $result)? {
            // SAFETY: the system's file behind ours was opened by the system's VFS, and has this method.
            unsafe {
                let inner = inner(file);
                (*(*inner).pMethods).$method.expect("the system's files have it")(inner $(, $arg)*)
            }
        }
    )*};
}

pass_on! {
    read, xRead, (bytes: *mut c_void, count: c_int, at: sqlite3_int64) -> c_int;
    file_size, xFileSize, (size: *mut sqlite3_int64) -> c_int;
    lock, xLock, (level: c_int) -> c_int;
    unlock, xUnlock, (level: c_int) -> c_int;
    check_reserved_lock, xCheckReservedLock, (out: *mut c_int) -> c_int;
    file_control, xFileControl, (operation: c_int, argument: *mut c_void) -> c_int;
    sector_size, xSectorSize, () -> c_int;
    device_characteristics, xDeviceCharacteristics, () -> c_int;
    shm_map, xShmMap, (page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int;
    shm_lock, xShmLock, (offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier, xShmBarrier, ();
    shm_unmap, xShmUnmap, (delete: c_int) -> c_int;
}

/// Version 2: with shared memory for the WAL, without mapped reads, which would pass us by.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
