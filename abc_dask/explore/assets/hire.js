// A worker for one job; it is let go when that is done, failed, or no longer wanted.

import { DataError } from './data.js';

// Call `hear` with what the job finds, each in turn; the job ends where that returns false.
export function hire(app, job, given, hear) {
  return new Promise((done, fail) => {
    const worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    const end = (settle, value) => { worker.terminate(); settle(value); };
    worker.onmessage = ({ data }) => {
      if (data.error) end(fail, new DataError(data.error));
      else if (data.end || hear(data.found) === false) end(done);
    };
    worker.onerror = () => end(fail, new DataError('no answer for worker.js'));
    worker.postMessage({ job, base: app.folder.base.href, given });
  });
}
