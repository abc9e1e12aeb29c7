/** One run of a cell that another page began: to the cell's output area it is a future like any other. */
export class Run {
  /** `told`: what the server says of it. `forget` is called once nothing more is to be led to it. */
  constructor(kernel, cell, told, forget) {
    this.msg = { header: { msg_id: told.msg_id, msg_type: 'execute_request' } };
    this.isDisposed = false;
    this.kernel = kernel;
    this.cell = cell;
    this.told = told;
    this.forget = forget;
    this.hasBegun = false;
    this.isIdle = false;
    this.reply = null;
    this.done = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    this.done.catch(() => undefined);
    cell.outputArea.reattachFuture(this);
    cell.model.executionCount = null;
    cell.model.executionState = 'running';
  }

  /** A cell whose run ended before this page could follow it: what was recorded, if it shows anything else. */
  static showEnded(cell, told) {
    const { model } = cell;
    if (plain(model.outputs.toJSON()) !== plain(told.outputs)) {
      model.outputs.fromJSON(told.outputs);
      model.executionCount = told.execution_count;
    }
  }

  /** A later cell changes a display of one that ended so; not if the person has run the cell anew or cleared it. */
  static update(cell, told, { content: { data, metadata, transient } }) {
    const { outputs, executionCount } = cell.model;
    if (cell.isDisposed || executionCount !== told.execution_count || outputs.length !== told.outputs.length) {
      return;
    }
    for (const at of told.displays[transient?.display_id] ?? []) {
      outputs.set(at, { ...outputs.get(at).toJSON(), data, metadata });
    }
  }

  /** A message about it. What came before the server said it all again is in that. */
  take(msg) {
    if (this.isDisposed || !(this.hasBegun ||= msg.header.msg_id === this.told.begins)) {
      return;
    }
    const { model } = this.cell;
    if (msg.channel === 'stdin') {
      this.onStdin(msg);
    } else if (msg.channel === 'shell') {
      this.reply = msg;
      this.onReply(msg);
    } else {
      this.onIOPub(msg);
    }
    this.time(msg);
    if (msg.header.msg_type === 'execute_input') {
      this.told.execution_count = msg.content.execution_count;
    }
    this.isIdle ||= msg.content.execution_state === 'idle';
    if (this.isIdle || this.reply?.content.status === 'aborted') {
      model.executionCount = this.told.execution_count;
      model.executionState = 'idle';
    }
    if (this.reply && (this.isIdle || this.reply.content.status === 'aborted')) {
      this.isDisposed = true;
      this.settle.resolve(this.reply);
      this.forget();
    }
  }

  /** Note the times as the page that asked would have done. */
  time({ header, metadata, content }) {
    const name = {
      execute_input: 'iopub.execute_input',
      execute_reply: 'shell.execute_reply',
      status: `iopub.status.${content.execution_state}`
    }[header.msg_type];
    if (this.told.timed && name) {
      const times = { ...this.cell.model.getMetadata('execution'), [name]: header.date };
      if (metadata.started) {
        times['shell.execute_reply.started'] = metadata.started;
      }
      this.cell.model.setMetadata('execution', times);
    }
  }

  onIOPub() {}
  onReply() {}
  onStdin() {}
  registerMessageHook() {}
  removeMessageHook() {}

  sendInputReply(content, parent) {
    this.kernel.sendInputReply(content, parent);
  }

  /** Nothing more will come, or the cell shows another run. */
  dispose() {
    if (this.isDisposed) {
      return;
    }
    this.isDisposed = true;
    this.forget();
    this.settle.reject(new Error('The kernel was restarted, or the cell is shown no more'));
    // Not at once: it may be a new run that takes this one's place, and then the cell is running.
    const { cell } = this;
    void Promise.resolve().then(() => {
      if (!cell.isDisposed && cell.outputArea.future === this) {
        cell.model.executionState = 'idle';
      }
    });
  }
}

/** Outputs in a form that does not depend on how text is cut into lines. */
function plain(outputs) {
  const joined = (key, value) =>
    Array.isArray(value) && value.every(one => typeof one === 'string') ? value.join('') : value;
  return JSON.stringify(outputs, joined);
}
