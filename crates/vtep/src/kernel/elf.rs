//! A program as an ELF relocatable object (elf(5)): the form in which tc(8) takes one.

use super::bpf::Program;

/// `Elf64_Ehdr`, `Elf64_Shdr`, `Elf64_Sym`.
const HEADER: u64 = 64;
const SYMBOL: u64 = 24;

const ET_REL: u16 = 1;
const EM_BPF: u16 = 247;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHF_WRITE_ALLOC: u64 = 3;
const SHF_ALLOC_EXEC: u64 = 6;
/// STB_GLOBAL, STT_FUNC.
const GLOBAL_FUNCTION: u8 = 0x12;

/// The section with the code, by its place in the section table.
const CODE: u16 = 3;

/// The strings, each by its place.
const NAMES: &str = "\0.strtab\0.symtab\0license\0l2gw\0";
const STRTAB: u32 = 1;
const SYMTAB: u32 = 9;
const LICENSE: u32 = 17;
const FUNCTION: u32 = 25;
const SECTION: u32 = 30;

struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    content: Vec<u8>,
    /// The section its names are in, and its first global symbol.
    link: (u32, u32),
    entry: u64,
}

/// The object: the code in a section of this name, a symbol that says it is a function, and a licence.
pub(super) fn object(section: &str, program: &Program) -> Vec<u8> {
    let code = program.code().to_vec();
    let plain = |name, kind, flags, content| Section {
        name,
        kind,
        flags,
        content,
        link: (0, 0),
        entry: 0,
    };
    let sections = [
        plain(0, 0, 0, Vec::new()),
        plain(
            STRTAB,
            SHT_STRTAB,
            0,
            format!("{NAMES}{section}\0").into_bytes(),
        ),
        Section {
            link: (1, 1),
            entry: SYMBOL,
            ..plain(SYMTAB, SHT_SYMTAB, 0, symbols(length(&code)))
        },
        plain(SECTION, SHT_PROGBITS, SHF_ALLOC_EXEC, code),
        plain(
            LICENSE,
            SHT_PROGBITS,
            SHF_WRITE_ALLOC,
            b"Apache-2.0\0".to_vec(),
        ),
    ];
    let mut contents = Vec::new();
    let mut table = Vec::new();
    for section in &sections {
        let place = match section.kind {
            0 => 0,
            _ => HEADER + length(&contents),
        };
        table.extend(section.header(place));
        contents.extend(&section.content);
        contents.resize(contents.len().next_multiple_of(8), 0);
    }
    let mut object = header(HEADER + length(&contents));
    object.extend(contents);
    object.extend(table);
    object
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn header(section_table: u64) -> Vec<u8> {
    let byte_order = if cfg!(target_endian = "big") { 2 } else { 1 };
    // 64 bits, version 1.
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, byte_order, 1];
    header.resize(16, 0);
    header.extend(ET_REL.to_ne_bytes());
    header.extend(EM_BPF.to_ne_bytes());
    header.extend(1_u32.to_ne_bytes());
    for number in [0, 0, section_table] {
        header.extend(number.to_ne_bytes());
    }
    header.extend(0_u32.to_ne_bytes());
    // Sizes of headers, five sections, and which of them has the names.
    for number in [64, 0, 0, 64, 5, 1_u16] {
        header.extend(number.to_ne_bytes());
    }
    header
}

/// The undefined symbol that begins every table, and the function.
fn symbols(size: u64) -> Vec<u8> {
    let mut symbols = vec![0; 24];
    symbols.extend(FUNCTION.to_ne_bytes());
    symbols.extend([GLOBAL_FUNCTION, 0]);
    symbols.extend(CODE.to_ne_bytes());
    symbols.extend(0_u64.to_ne_bytes());
    symbols.extend(size.to_ne_bytes());
    symbols
}

impl Section {
    fn header(&self, place: u64) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend(self.name.to_ne_bytes());
        header.extend(self.kind.to_ne_bytes());
        for number in [self.flags, 0, place, length(&self.content)] {
            header.extend(number.to_ne_bytes());
        }
        header.extend(self.link.0.to_ne_bytes());
        header.extend(self.link.1.to_ne_bytes());
        for number in [8, self.entry] {
            header.extend(number.to_ne_bytes());
        }
        header
    }
}
