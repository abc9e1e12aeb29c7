// Cells that still run when their notebook is opened go on filling, as in the page that began them.
//
// The server has recorded what they put out. Asked to, it gives their requests to this page's session: all that came
// so far, then all that comes, arrives on the kernel's own socket. JupyterLab drops messages of requests that it has
// not made itself; here they are led to the output area of their cell.

import { english, retold, speaker } from '../../himalia-status/static/languages.js';
import { Run } from './run.js';

const ASK_AGAIN_MS = 5000;
/** What the server says of a kernel that is silent. */
const WHY = ['does not answer: no heartbeat for {count} s'];

/** The plugins for a front end with these modules; none on a server that does not record outputs. */
export function makePlugins(
  { Notification }, { PageConfig }, { INotebookTracker }, { ServerConnection }, { ITranslator }
) {
  if (PageConfig.getOption('himaliaOutputs') !== 'true') {
    return [];
  }
  const ask = (kernel, body) => {
    const settings = kernel.serverSettings;
    const url = `${settings.baseUrl}api/kernels/${kernel.id}/runs/take-over?no_track_activity=1`;
    return ServerConnection.makeRequest(url, { method: 'POST', body: JSON.stringify(body) }, settings);
  };
  return [
    {
      id: 'himalia-outputs:plugin',
      description: 'Shows the outputs of cells that another page began to run.',
      autoStart: true,
      optional: [INotebookTracker, ITranslator],
      activate: (app, tracker, translator) => {
        // Notebooks that are opened before the language is there are followed too.
        const means = { Notification, say: english };
        void speaker(translator).then(say => (means.say = say));
        tracker?.widgetAdded.connect((_, panel) => void follow(panel, ask, means));
      }
    }
  ];
}

/** Follow the kernels of a notebook, one after the other, until it is closed. */
async function follow(panel, ask, means) {
  await panel.context.ready;
  let follower = null;
  const silence = new Silence(panel.context, means);
  const use = kernel => {
    if (follower?.kernel === kernel) {
      return;
    }
    follower?.dispose();
    silence.watch(kernel);
    follower = kernel ? new Follower(panel.content, kernel, ask) : null;
  };
  panel.sessionContext.kernelChanged.connect((_, change) => use(change.newValue));
  panel.disposed.connect(() => use(null));
  use(panel.sessionContext.session?.kernel);
}

/** Says while a notebook's kernel does not answer: the status alone cannot tell why. */
class Silence {
  constructor(context, means) {
    this.context = context;
    this.means = means;
    this.kernel = null;
    this.shown = null;
  }

  watch(kernel) {
    this.kernel?.iopubMessage.disconnect(this.onMessage, this);
    this.tell('');
    this.kernel = kernel;
    kernel?.iopubMessage.connect(this.onMessage, this);
  }

  onMessage(_, msg) {
    const why = msg.metadata.himalia?.silent;
    // A process that is new answers for itself.
    if (why !== undefined || msg.content.execution_state === 'restarting') {
      this.tell(why ?? '');
    }
  }

  tell(why) {
    if (this.shown !== null) {
      this.means.Notification.dismiss(this.shown);
      this.shown = null;
    }
    if (why) {
      const { Notification, say } = this.means;
      const values = { path: this.context.path, why: retold(say, WHY, why) };
      const text = say('The kernel of {path} {why}. It goes on by itself once it can, or restart it.', values);
      this.shown = Notification.warning(text, { autoClose: false });
    }
  }
}

/** The runs on one kernel that others began and this page shows. */
class Follower {
  constructor(notebook, kernel, ask) {
    this.notebook = notebook;
    this.kernel = kernel;
    this.ask = ask;
    this.runs = new Map();
    /** What ended before: later cells may still change its displays. */
    this.ended = [];
    /** Messages that come while the server is asked: only its answer says whose they are. */
    this.held = null;
    this.asked = -Infinity;
    kernel.anyMessage.connect(this.onMessage, this);
    kernel.statusChanged.connect(this.onStatus, this);
    kernel.connectionStatusChanged.connect(this.onConnection, this);
    kernel.disposed.connect(this.dispose, this);
    this.onConnection(kernel, kernel.connectionStatus);
  }

  dispose() {
    this.kernel.anyMessage.disconnect(this.onMessage, this);
    this.kernel.statusChanged.disconnect(this.onStatus, this);
    this.kernel.connectionStatusChanged.disconnect(this.onConnection, this);
    this.kernel.disposed.disconnect(this.dispose, this);
    this.endAll();
  }

  onConnection(kernel, status) {
    if (status === 'connected' && this.asked === -Infinity) {
      void this.takeOver({ first: true });
    }
  }

  onStatus(kernel, status) {
    if (['restarting', 'autorestarting', 'terminating', 'dead'].includes(status)) {
      this.endAll();
    }
  }

  onMessage(kernel, { msg, direction }) {
    const parent = msg.parent_header;
    if (direction !== 'recv' || !parent.msg_id || parent.session === kernel.clientId) {
      return;
    }
    if (this.held) {
      this.held.push(msg);
    } else {
      this.take(msg);
    }
  }

  take(msg) {
    const run = this.runs.get(msg.parent_header.msg_id);
    if (msg.header.msg_type === 'update_display_data') {
      this.runs.forEach(one => one.take(msg));
      this.ended.forEach(({ cell, told }) => Run.update(cell, told, msg));
    } else if (run) {
      run.take(msg);
    } else if (msg.channel === 'iopub' && msg.parent_header.msg_type === 'execute_request') {
      // Another page's cell. It may have gone without a word, and the server found that out just now.
      void this.takeOver({ first: false });
    }
  }

  /** Take over what nobody shows. What is over is shown once, before the person can have changed the cell. */
  async takeOver({ first }) {
    if (this.held || performance.now() - this.asked < ASK_AGAIN_MS) {
      return;
    }
    this.asked = performance.now();
    this.held = [];
    const cells = new Map(this.notebook.widgets.map(cell => [cell.model.id, cell]));
    const told = await this.answer({ session_id: this.kernel.clientId, cells: [...cells.keys()] });
    const held = this.held;
    this.held = null;
    if (this.kernel.isDisposed || this.notebook.isDisposed) {
      return;
    }
    for (const one of told) {
      const cell = cells.get(one.cell_id);
      if (one.state === 'ended') {
        if (first) {
          Run.showEnded(cell, one);
          this.ended.push({ cell, told: one });
        }
      } else {
        this.runs.set(one.msg_id, new Run(this.kernel, cell, one, () => this.runs.delete(one.msg_id)));
      }
    }
    held.forEach(msg => this.take(msg));
  }

  async answer(body) {
    try {
      const response = await this.ask(this.kernel, body);
      return response.ok ? (await response.json()).runs : [];
    } catch {
      return []; // The connection is gone: Lab says so itself, and the page is asked for again by what comes.
    }
  }

  endAll() {
    this.runs.forEach(run => run.dispose());
  }
}
