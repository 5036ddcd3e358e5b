// SPDX-License-Identifier: Apache-2.0
// Which keys a user of a keyboard presses for a character. A key is named as in UI Events "code"; behind it
// stand the characters that it gives alone, with shift and with AltGr. A dead key gives its character with a space.

const LETTERS = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"];

/* Letters stand where their key says, but for those that a layout moves. */
function letters(moved = {}) {
  return Object.fromEntries(LETTERS.map((c) => {
    const has = moved[c] ?? c;
    return [`Key${c}`, has.length === 1 ? has.toLowerCase() + has : has];
  }));
}

const SPECIAL = { Space: " ", Enter: "\n", Tab: "\t" };

class Layout {
  constructor(title, keys, dead = []) {
    this.title = title;
    this.keys = new Map();
    for (const [code, chars] of Object.entries({ ...SPECIAL, ...keys }))
      [...chars].forEach((ch, level) => {
        if (ch !== "\0" && !this.keys.has(ch))
          this.keys.set(ch, { code, shift: level === 1, altgr: level === 2 });
      });
    for (const [ch, code, level] of dead)
      this.keys.set(ch, { code, shift: level === 1, altgr: level === 2, dead: true });
  }

  /** {code, shift, altgr, dead}, or undefined for a character that the keyboard does not have. */
  key(ch) {
    return this.keys.get(ch);
  }
}

const us = {
  ...letters(), Backquote: "`~", Digit1: "1!", Digit2: "2@", Digit3: "3#", Digit4: "4$", Digit5: "5%", Digit6: "6^",
  Digit7: "7&", Digit8: "8*", Digit9: "9(", Digit0: "0)", Minus: "-_", Equal: "=+", BracketLeft: "[{",
  BracketRight: "]}", Backslash: "\\|", Semicolon: ";:", Quote: "'\"", Comma: ",<", Period: ".>", Slash: "/?",
};

const gb = {
  ...us, Backquote: "`\u00ac\u00a6", Digit2: "2\"", Digit3: "3\u00a3", Digit4: "4$\u20ac", Quote: "'@", Backslash: "#~",
  IntlBackslash: "\\|",
};

const de = {
  ...letters({ Y: "Z", Z: "Y", Q: "qQ@", E: "eE\u20ac", M: "mM\u00b5" }), Backquote: "\0\u00b0", Digit1: "1!",
  Digit2: "2\"\u00b2", Digit3: "3\u00a7\u00b3", Digit4: "4$", Digit5: "5%", Digit6: "6&", Digit7: "7/{", Digit8: "8([",
  Digit9: "9)]", Digit0: "0=}", Minus: "\u00df?\\", BracketLeft: "\u00fc\u00dc", BracketRight: "+*~",
  Backslash: "#'", Semicolon: "\u00f6\u00d6", Quote: "\u00e4\u00c4", Comma: ",;", Period: ".:", Slash: "-_",
  IntlBackslash: "<>|",
};

const fr = {
  ...letters({ A: "Q", Q: "A", Z: "W", W: "Z", M: ",?", E: "eE\u20ac" }), Backquote: "\u00b2", Digit1: "&1", Digit2: "\u00e92",
  Digit3: "\"3#", Digit4: "'4{", Digit5: "(5[", Digit6: "-6|", Digit7: "\u00e87", Digit8: "_8\\", Digit9: "\u00e79^",
  Digit0: "\u00e00@", Minus: ")\u00b0]", Equal: "=+}", BracketRight: "$\u00a3", Semicolon: "mM", Quote: "\u00f9%",
  Backslash: "*\u00b5", Comma: ";.", Period: ":/", Slash: "!\u00a7", IntlBackslash: "<>",
};

export const layouts = {
  us: new Layout("English (US)", us),
  gb: new Layout("English (UK)", gb),
  de: new Layout("German", de, [["^", "Backquote", 0], ["\u00b4", "Equal", 0], ["`", "Equal", 1]]),
  fr: new Layout("French", fr, [["~", "Digit2", 2], ["`", "Digit7", 2]]),
};
