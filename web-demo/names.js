// A friendly name for whoever came without one.

const MOODS = "drowsy,mellow,quiet,gentle,velvet,amber,mossy,cosy,hazy,silver,tawny,dreamy,snug,balmy,dusky,plum".split(",");
const NEIGHBOURS = "hazel,acorn,badger,otter,wren,fern,bramble,hedgehog,lark,willow,beech,moth,vole,thistle,owl,robin".split(",");

export function friendlyName() {
  return `${pick(MOODS)}-${pick(NEIGHBOURS)}`;
}

function pick(words) {
  return words[Math.floor(Math.random() * words.length)];
}
