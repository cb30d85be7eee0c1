//! How an instance ends, other than by being ended: its process or its runtime is gone, or it has failed. Who waits for it is told.

use bytes::Bytes;
use model::ByteSize;

use super::{
    instance::{Answer, InitFailure, Instance, Progress, Stage},
    payload::failure,
};
use crate::launcher::Exit;

impl Instance {
    /// Ends it, because it had more than `limit` in its temporary folder.
    pub(crate) fn overflowed(&self, limit: ByteSize) {
        self.logs.catch_up();
        self.fail(failure::overflowed(None, limit), || {
            Answer::Overflowed(limit)
        });
        self.kill();
    }

    /// It is of no more use: who waits for its start is told `object`, who waits for an answer gets `answer`.
    pub(super) fn fail(&self, object: Bytes, answer: impl Fn() -> Answer) {
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Gone);
        self.end_presence(&before);
        match before {
            Stage::Init(ready) => drop(ready.send(Err(InitFailure::Reported(object, None)))),
            Stage::Up(up) => {
                for work in up.works {
                    drop(work.answer.send(Progress::Ended(answer())));
                }
            }
            Stage::Gone => {}
        }
    }

    /// Its process has ended. True when nobody had asked for that.
    pub(crate) fn died(&self, exit: Exit) -> bool {
        self.logs.catch_up();
        // The shell that outlived a runtime says how that ended, and the system why.
        let own = self.marks.end();
        let exit = own.map_or(exit, |own| Exit {
            out_of_memory: exit.out_of_memory,
            ..own
        });
        let answered = self.end_with(exit);
        drop(self.child.lock().take());
        answered || own.is_some()
    }

    /// Tells who waits for it how its process, or its runtime, ended; false when nobody was to be told any more.
    pub(super) fn end_with(&self, exit: Exit) -> bool {
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Gone);
        self.end_presence(&before);
        match before {
            Stage::Gone => return false,
            Stage::Init(ready) => drop(ready.send(Err(InitFailure::Exited(Some(exit))))),
            Stage::Up(up) => {
                for work in up.works {
                    let died = Progress::Ended(Answer::Died(Some(exit)));
                    drop(work.answer.send(died));
                }
            }
        }
        true
    }

    /// It takes no more work, and who waits for an answer goes on waiting; false when it is gone already. The second is how many places
    /// of it had been offered.
    pub(super) fn take_no_more(&self) -> (bool, usize) {
        match &mut *self.stage.lock() {
            Stage::Gone => (false, 0),
            Stage::Init(_) => (true, 0),
            Stage::Up(up) => {
                up.retires = true;
                (true, std::mem::take(&mut up.offered))
            }
        }
    }
}
