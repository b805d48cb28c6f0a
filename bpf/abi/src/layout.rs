//! One declaration per structure, from which both the Rust type and its C twin are made.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A type whose bytes are all data: `repr(C)`, no padding, every bit pattern valid.
///
/// Sealed: only the types of this crate (checked for holes where they are declared), the
/// fixed-size integers and arrays of these implement it, so a loader may copy such a value to
/// and from kernel memory.
pub trait Plain: Copy + Send + Sync + 'static + sealed::Sealed {}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// How a type is spelled in C.
pub(crate) trait CType {
    /// The declaration of `name` with this type, without the semicolon.
    fn declare(name: &str) -> String;
}

/// One field of a structure as the C compiler must see it.
pub(crate) struct Field {
    pub(crate) declaration: String,
    pub(crate) name: &'static str,
    pub(crate) offset: usize,
}

/// A structure that has a C twin.
pub(crate) trait Layout {
    const C_NAME: &'static str;
    const SIZE: usize;
    fn fields() -> Vec<Field>;
}

macro_rules! integer {
    ($($rust:ty => $c:literal),*) => {$(
        impl sealed::Sealed for $rust {}
        impl Plain for $rust {}
        impl CType for $rust {
            fn declare(name: &str) -> String {
                format!(concat!($c, " {}"), name)
            }
        }
    )*};
}
integer!(u8 => "__u8", u16 => "__u16", u32 => "__u32", u64 => "__u64");

impl<T: sealed::Sealed, const N: usize> sealed::Sealed for [T; N] {}
impl<T: Plain, const N: usize> Plain for [T; N] {}
impl<T: CType, const N: usize> CType for [T; N] {
    fn declare(name: &str) -> String {
        T::declare(&format!("{name}[{N}]"))
    }
}

/// Renders the C definition of a structure with its layout assertions.
pub(crate) fn render<T: Layout>() -> String {
    let mut out = format!("struct {} {{\n", T::C_NAME);
    for field in T::fields() {
        out.push_str(&format!("\t{};\n", field.declaration));
    }
    out.push_str("};\n");
    out.push_str(&format!(
        "_Static_assert(sizeof(struct {0}) == {1}, \"{0}\");\n",
        T::C_NAME,
        T::SIZE
    ));
    for field in T::fields() {
        out.push_str(&format!(
            "_Static_assert(__builtin_offsetof(struct {0}, {1}) == {2}, \"{0}.{1}\");\n",
            T::C_NAME,
            field.name,
            field.offset
        ));
    }
    out
}

/// The declaration of a structure-typed field.
pub(crate) fn declare_struct(c_name: &str, name: &str) -> String {
    let mut out = "struct ".to_string();
    out.push_str(c_name);
    out.push(' ');
    out.push_str(name);
    out
}

/// Declares a structure shared with the eBPF programs.
macro_rules! wire {
    (
        $(#[$meta:meta])*
        pub struct $name:ident as $c_name:literal {
            $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        // A hole would carry stray stack bytes into hash keys.
        const _: () = assert!(
            core::mem::size_of::<$name>() == 0 $(+ core::mem::size_of::<$ty>())*,
            "the structure has a padding hole"
        );

        impl $crate::layout::sealed::Sealed for $name {}
        impl $crate::layout::Plain for $name {}

        impl $crate::layout::CType for $name {
            fn declare(name: &str) -> alloc::string::String {
                $crate::layout::declare_struct($c_name, name)
            }
        }

        impl $crate::layout::Layout for $name {
            const C_NAME: &'static str = $c_name;
            const SIZE: usize = core::mem::size_of::<Self>();

            fn fields() -> alloc::vec::Vec<$crate::layout::Field> {
                alloc::vec![$($crate::layout::Field {
                    declaration: <$ty as $crate::layout::CType>::declare(stringify!($field)),
                    name: stringify!($field),
                    offset: core::mem::offset_of!(Self, $field),
                }),*]
            }
        }
    };
}
