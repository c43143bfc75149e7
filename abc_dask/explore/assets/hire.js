// A worker for one job; it is let go when that is done, failed, or no longer wanted.

import { AWAY, DataError } from './data.js';

// Call `hear` with what the job finds, each in turn; the job ends where that returns false.
export function hire(app, job, given, hear) {
  return new Promise((done, fail) => {
    const worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    const end = (settle, value) => { worker.terminate(); settle(value); };
    worker.onmessage = ({ data }) => {
      if (data.error) end(fail, new DataError(data.error, { cause: data.cause }));
      else if (data.end || hear(data.found) === false) end(done);
    };
    worker.onerror = () => end(fail, new DataError('no answer for worker.js', { cause: AWAY }));
    worker.postMessage({ job, base: app.folder.base.href, given });
  });
}
