// In which language our extensions speak, and how they say a sentence in it. English is in the code; what a language says
// instead is a file beside this one. Used by himalia-outputs too.

const SPOKEN = ['de'];
const PLACE = /\{(\w+)\}/g;

/**
 * The front end's language where somebody chose one; else the one chosen at the foot of the hub's pages; else what the
 * browser asks for. A front end speaks English also when nobody was asked, so that is no choice.
 */
function chosen(translator) {
  const language = translator?.languageCode ?? '';
  if (language && !/^en/i.test(language)) {
    return language;
  }
  return /(?:^|; )himalia-language=([^;]*)/.exec(document.cookie)?.[1] ?? navigator.language;
}

const saying = words => (sentence, values = {}) =>
  (words[sentence] ?? sentence).replace(PLACE, (_, name) => values[name]);

/** What says them in English. */
export const english = saying({});

/** What says sentences: `say('Stops in {span}', { span })`. A language that cannot be had is English. */
export async function speaker(translator) {
  const language = chosen(translator).toLowerCase().split(/[-_]/)[0];
  let words = {};
  if (SPOKEN.includes(language)) {
    try {
      words = await (await fetch(new URL(`${language}.json`, import.meta.url))).json();
    } catch {
      // The page works without.
    }
  }
  return saying(words);
}

/** A sentence that the hub or the server wrote, said anew where it is one of these; each has its places for values. */
export function retold(say, sentences, text) {
  for (const sentence of sentences) {
    const found = new RegExp(`^${sentence.replace(PLACE, '(?<$1>.+)')}$`).exec(text);
    if (found) {
      const values = Object.entries(found.groups ?? {}).map(([name, value]) => [name, retold(say, sentences, value)]);
      return say(sentence, Object.fromEntries(values));
    }
  }
  return text;
}
