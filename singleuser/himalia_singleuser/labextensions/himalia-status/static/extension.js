// What a person should know of their server without leaving the page: what the hub announces, when it stops the
// server and how to put that off, what the server uses, and the way home.
//
// All of it comes from one small endpoint of the server. Nothing is asked while the page is hidden: nobody looks, and a
// server that is asked would count as used.

import { retold, speaker } from './languages.js';
import { amount, processors, span } from './words.js';

const ASK_EVERY_MS = 15000;
const TELL_EVERY_MS = 5000;
const SOON_S = 300;
/** What the hub gives as the reason of a stop. */
const WHY = [
  'idle for {long}', 'running for {long}, the longest allowed', '{count} days', '{count} hours', '{count} minutes',
  '{count} seconds', '1 minute', '1 second', 'the {count} server-hours of {whose} are used up',
  'the 1 server-hour of {whose} is used up', 'the {count} GiB-hours of memory of {whose} are used up',
  'the 1 GiB-hour of memory of {whose} is used up', 'the group {name}'
];

/** The plugin for a front end with these modules; none where no hub of ours is behind the server. */
export function makePlugins({ PageConfig, URLExt }, { ServerConnection }, { IStatusBar }, { ITranslator }, { Widget }) {
  if (PageConfig.getOption('himaliaStatus') !== 'true') {
    return [];
  }
  const home = URLExt.join(PageConfig.getOption('hubHost') || '/', PageConfig.getOption('hubPrefix'), 'home');
  return [
    {
      id: 'himalia-status:plugin',
      description: 'Shows announcements, the stop countdown and what the server uses.',
      autoStart: true,
      optional: IStatusBar ? [ITranslator, IStatusBar] : [ITranslator],
      activate: async (app, translator, bar) => {
        const say = await speaker(translator);
        const settings = app.serviceManager.serverSettings;
        const ask = async (path, method) => {
          const url = `${settings.baseUrl}api/himalia/${path}?no_track_activity=1`;
          const response = await ServerConnection.makeRequest(url, { method }, settings);
          if (!response.ok) {
            throw new Error(`${response.status}`);
          }
          return response.json();
        };
        const banner = new Banner(Widget, say, () => void status.keepAlive());
        const line = bar ? new Line(Widget, say, home) : null;
        const status = new Status(ask, [banner, ...(line ? [line] : [])]);
        line && bar.registerStatusItem('himalia-status:line', { item: line.widget, align: 'right', rank: 900 });
        if (app.name === 'JupyterLab') {
          app.shell.add(banner.widget, 'header', { rank: 0 });
        } else {
          // Jupyter Notebook has no place above its menu: there it lies over the lower edge of the page.
          banner.widget.node.style.cssText += 'position: fixed; inset: auto 0 0 0; z-index: 1000;';
          Widget.attach(banner.widget, document.body);
        }
        void app.restored.then(() => status.follow());
      }
    }
  ];
}

/** What was told last, and telling it to those who show it. */
class Status {
  constructor(ask, shown) {
    this.ask = ask;
    this.shown = shown;
    this.told = null;
    this.stopsAt = null;
    this.asking = false;
  }

  follow() {
    const look = () => document.hidden || void this.take('status', 'GET');
    document.addEventListener('visibilitychange', look);
    setInterval(look, ASK_EVERY_MS);
    setInterval(() => this.show(), TELL_EVERY_MS);
    look();
  }

  keepAlive() {
    return this.take('keep-alive', 'POST');
  }

  async take(path, method) {
    if (this.asking && method === 'GET') {
      return;
    }
    this.asking = true;
    try {
      this.told = await this.ask(path, method);
      this.stopsAt = this.told.stop ? Date.now() + this.told.stop.in_s * 1000 : null;
      this.show();
    } catch (error) {
      // Lab itself says when the server is gone; what was told last still holds.
      this.shown.forEach(one => method === 'POST' && one.refused?.());
    } finally {
      this.asking = false;
    }
  }

  show() {
    if (this.told) {
      const left = this.stopsAt === null ? null : Math.max(0, (this.stopsAt - Date.now()) / 1000);
      this.shown.forEach(one => one.show(this.told, left));
    }
  }
}

const element = (tag, className, text = '') => {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text; // never HTML: announcements are other people's words
  return node;
};

/** Above the menu: announcements, and the last five minutes. Not there while there is nothing to say. */
class Banner {
  constructor(Widget, say, keepAlive) {
    this.say = say;
    this.widget = new Widget();
    this.widget.id = 'himalia-banner';
    this.widget.title.label = say('Announcements of the hub');
    const node = this.widget.node;
    node.setAttribute('role', 'region');
    node.setAttribute('aria-label', say('Announcements of the hub'));
    node.setAttribute('aria-live', 'polite');
    node.style.cssText = 'overflow: auto; max-height: 30vh; flex: none;';
    this.widget.hide();
    this.keepAlive = keepAlive;
    this.put = new Set();
    this.drawn = '';
    this.failed = false;
    this.width = 0;
    new ResizeObserver(() => requestAnimationFrame(() => this.width !== node.clientWidth && this.fit())).observe(node);
  }

  refused() {
    this.failed = true;
    this.drawn = '';
    this.button && (this.button.disabled = false);
  }

  show(told, left) {
    const { announcements, stop } = told;
    const safe = told.safe_mode && !this.put.has('safe');
    const said = announcements.filter(one => !this.put.has(`${one.id} ${one.text}`));
    const soon = stop && left < SOON_S;
    const minutes = soon ? span(left) : '';
    const drawn = JSON.stringify([safe, said, soon && [minutes, stop, this.failed]]);
    if (drawn === this.drawn) {
      return;
    }
    const focused = this.widget.node.contains(document.activeElement) && document.activeElement.dataset.himalia;
    this.drawn = drawn;
    const hide = key => {
      this.put.add(key);
      this.show(told, left);
    };
    const lines = said.map(one => this.announcement(one, () => hide(`${one.id} ${one.text}`)));
    safe && lines.unshift(this.safeMode(() => hide('safe')));
    soon && lines.unshift(this.countdown(stop, minutes));
    this.widget.node.replaceChildren(...lines);
    this.widget.setHidden(lines.length === 0);
    focused && this.widget.node.querySelector(`[data-himalia="${CSS.escape(focused)}"]`)?.focus();
    this.fit();
  }

  announcement(one, hide) {
    const { say } = this;
    const levels = { warning: say('Warning'), danger: say('Important') };
    return this.toHide(one.level, levels[one.level] ?? say('Note'), one.text, `hide-${one.id}`, hide);
  }

  safeMode(hide) {
    const text = this.say('this server has a home of its own, without your settings and packages. All your files are there. When you have made room or put the cause right, stop it and start it again.');
    return this.toHide('warning', this.say('Safe mode'), text, 'hide-safe', hide);
  }

  toHide(level, title, text, key, hide) {
    const line = this.line(level);
    line.append(element('strong', '', `${title}:`), element('span', '', text));
    line.children[0].style.flex = 'none';
    line.children[1].style.whiteSpace = 'pre-line';
    const close = this.action(this.say('Hide'), key, hide);
    close.setAttribute('aria-label', this.say('Hide this announcement'));
    line.append(close);
    return line;
  }

  countdown(stop, minutes) {
    const line = this.line('warning');
    const { say } = this;
    const stops = minutes ? say('This server stops in {span}', { span: minutes }) : say('This server stops any moment');
    const how = stop.can_keep_alive
      ? say('unless it is used or kept alive.')
      : say('{why}. Save your work.', { why: retold(say, WHY, stop.why) });
    line.append(element('strong', '', stop.can_keep_alive ? stops : `${stops}:`), element('span', '', how));
    if (stop.can_keep_alive) {
      this.button = this.action(say('Keep alive'), 'keep-alive', () => {
        this.failed = false;
        this.button.disabled = true;
        this.keepAlive();
      });
      line.append(this.button);
    }
    this.failed && line.append(element('span', '', say('The hub does not answer. Try again in a moment.')));
    return line;
  }

  line(level) {
    const line = element('div', 'himalia-line');
    const colour = level === 'danger' ? 'error' : level === 'warning' ? 'warn' : 'info';
    line.style.cssText = 'display: flex; gap: 8px; align-items: baseline; padding: 4px 12px; overflow-wrap: anywhere;' +
      'color: var(--jp-ui-font-color1); background: var(--jp-layout-color2); font-size: var(--jp-ui-font-size1);' +
      `border-inline-start: 4px solid var(--jp-${colour}-color1);`;
    return line;
  }

  action(text, key, act) {
    const button = element('button', 'jp-Button jp-mod-styled jp-mod-minimal', text);
    button.type = 'button';
    button.dataset.himalia = key;
    button.style.cssText = 'flex: none; border: 1px solid var(--jp-border-color1); padding: 0 8px; min-height: 24px; line-height: 22px;';
    button.addEventListener('click', act);
    return button;
  }

  /** Lab's layout asks a widget how high it must be; text only knows once it is laid out. */
  fit() {
    const node = this.widget.node;
    this.width = node.clientWidth; // none while it was hidden: measured again as soon as it has one
    node.style.minHeight = '0';
    const height = [...node.children].reduce((sum, line) => sum + line.scrollHeight, 0);
    node.style.minHeight = `${Math.min(height, window.innerHeight * 0.3)}px`;
    this.widget.parent?.fit();
  }
}

/** In the status bar: memory, processors, when it stops, the way home. */
class Line {
  constructor(Widget, say, home) {
    this.say = say;
    this.widget = new Widget();
    const node = this.widget.node;
    node.style.cssText = 'display: flex; gap: 12px; align-items: center; padding: 0 8px; white-space: nowrap;';
    [this.usage, this.stop] = [element('span', 'himalia-usage'), element('span', 'himalia-stop')];
    this.usage.title = say('Memory and processors of this server with its kernels and terminals');
    const link = element('a', 'himalia-home', say('Hub home'));
    link.href = home;
    link.target = '_blank';
    link.rel = 'noopener';
    link.style.color = 'inherit';
    link.style.textDecoration = 'underline';
    node.append(this.usage, this.stop, link);
  }

  show({ usage, stop }, left) {
    const { say } = this;
    const used = amount(usage.memory);
    const limited = usage.memory_limit ? say('{used} of {limit}', { used, limit: amount(usage.memory_limit) }) : used;
    this.usage.textContent = say('Memory {amount}', { amount: limited }) + processors(usage);
    const stops = left >= 60 ? say('Stops in {span}', { span: span(left) }) : say('Stops any moment');
    this.stop.textContent = stop ? stops : '';
    const why = stop ? retold(say, WHY, stop.why) : '';
    this.stop.title = why && stop.can_keep_alive ? say('{why}, unless used', { why }) : why;
  }
}
