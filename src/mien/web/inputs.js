/**
 * The images that a visitor drops, chooses or pastes.
 *
 * @typedef {{name: string, file: Blob}} Source A file and its path in the folder that was given.
 */

const SUFFIXES = /\.(jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|avif|hei[cf])$/i;

/** Return whether a file looks like an image; hidden files do not. */
function isImage({ name, file }) {
  return !name.split("/").at(-1).startsWith(".") && (file.type.startsWith("image/") || SUFFIXES.test(name));
}

/** Sort by name, as `mien predict` does. */
const compare = (one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0);

/**
 * Return the images among files that were chosen.
 * @param {Iterable<File>} files
 * @returns {Source[]}
 */
export function chosen(files) {
  const all = [...files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));
  return all.filter(isImage).sort(compare);
}

/**
 * Return the images among files and folders that were dropped or pasted.
 * @param {DataTransfer} transfer
 * @returns {Promise<Source[]>}
 */
export async function transferred(transfer) {
  // Entries must be read before the first pause, because the browser then empties the transfer.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return chosen(transfer.files);
  const found = await Promise.all(entries.map(filesOf));
  return found.flat().filter(isImage).sort(compare);
}

/** Return the files below an entry. */
async function filesOf(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ name: entry.fullPath.replace(/^\//, ""), file }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader returns at most 100 entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const each of some) found.push(...(await filesOf(each)));
  }
}
