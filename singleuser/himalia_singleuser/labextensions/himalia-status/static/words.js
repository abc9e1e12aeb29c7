// Amounts and times as people say them. Pure.

const UNITS = [[86400, 'd'], [3600, 'h'], [60, 'min']];

/** Bytes: `412 MB`, `1.6 GB`; powers of 1024, as limits are given. */
export function amount(bytes) {
  const gigabytes = bytes / 2 ** 30;
  return gigabytes >= 1 ? `${gigabytes.toFixed(1).replace(/\.0$/, '')} GB` : `${Math.round(bytes / 2 ** 20)} MB`;
}

/** ` · CPU 12 %`: of what the server may use where that is known, else 100 % is one whole processor. */
export function processors({ cpus, cpu_limit: limit }) {
  return cpus === null ? '' : ` · CPU ${Math.round((100 * cpus) / (limit || 1))} %`;
}

/** Seconds in the two largest units: `2 d 3 h`, `5 min`; empty below a minute. */
export function span(seconds) {
  const at = UNITS.findIndex(([size]) => seconds >= size);
  if (at < 0) {
    return '';
  }
  const [size, unit] = UNITS[at];
  const next = UNITS[at + 1];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ''}`;
}
